r"""Worker process that decides answer equivalence and may be killed at any time.

`service.equivalence` runs it as a script, which keeps sympy and hostile LaTeX out of the server process. It imports
nothing from secondpass. The protocol is JSON lines. The worker writes {"ready": true} once it is ready, then answers
each pair [a, b] on stdin with {"same": bool, "retire": bool}. With `retire` true, the worker exits after this reply. It
also exits when stdin closes.

The kernel enforces the limits. ITIMER_PROF counts only the CPU time of this process, so a loaded machine does not kill a
harmless comparison. Its signal ends the process even inside a long C call, where Python's handlers (and those of
math-verify, which are disabled) would have to wait.

Arguments: CPU seconds for one comparison, bytes of address space.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import sys
from pathlib import Path

from math_verify import LatexExtractionConfig, parse, verify

_WORDS = re.compile(r"[^\W\d_]{3,}(?:[ -]+[^\W\d_]+)*")
_WRAPPED_WORDS = re.compile(r"\\(?:text|mathrm)\{([^{}]*)\}")


def equivalent(a: str, b: str) -> bool:
    """Return whether math-verify accepts either answer as the other, without a time limit."""
    words = [_words(text) for text in (a, b)]
    if all(words):
        # Parsed as formulas, words are products of their letters, and "listen" would equal "silent".
        return words[0] == words[1]
    config = [LatexExtractionConfig()]
    first, second = (
        parse(f"${' '.join(text.replace('$', ' ').split())}$", config, parsing_timeout=None)
        for text in (a, b)
    )
    return any(
        verify(gold, target, timeout_seconds=None)
        for gold, target in ((first, second), (second, first))
    )


def _words(text: str) -> str | None:
    """Return the text in lower case if it consists of words; None for a formula."""
    plain = _WRAPPED_WORDS.sub(r"\1", text).strip()
    return plain.casefold() if _WORDS.fullmatch(plain) else None


def resident_bytes() -> int:
    """Return the resident memory of this process.

    ru_maxrss is not usable: a child process inherits its parent's peak.
    """
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize()


def main(cpu_seconds: float, memory_bytes: int) -> None:
    """Answer pairs until stdin closes or resident memory exceeds half of the limit."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # keep library output out of the replies

    def reply(message: dict[str, bool]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    equivalent(
        r"\frac{1}{2}x+1", "1+x/2"
    )  # warm up the parser tables before the first timed comparison
    reply({"ready": True})
    for line in sys.stdin.buffer:
        pair = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        same = equivalent(*pair)
        signal.setitimer(signal.ITIMER_PROF, 0)
        retire = resident_bytes() > memory_bytes // 2
        reply({"same": same, "retire": retire})
        if retire:
            return


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
