r"""A process that decides whether two mathematical answers are equivalent, and may be killed at any time.

Run as a script by `service.equivalence`, so that neither sympy nor what hostile LaTeX makes of it ever enters the
server. It imports nothing of secondpass. The protocol is JSON lines: it writes {"ready": true} when it can
work; then each pair [a, b] on stdin is answered by {"same": bool, "retire": bool}, where `retire` says that this
was its last one. It ends when stdin does.

The limits are the kernel's. ITIMER_PROF counts the CPU time of this process alone, so that a loaded machine
kills no innocent comparison, and its signal ends the process even inside one long C call, where Python's own
handlers (and math-verify's, which are switched off) would wait.

Arguments: seconds of CPU for one comparison, bytes of address space.
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
    """Whether math-verify takes either answer for the other; without a time limit of its own."""
    words = [_words(text) for text in (a, b)]
    if all(words):
        # As formulas they would be products of their letters, and "listen" equal to "silent".
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
    """The text in lower case if it is words and no formula."""
    plain = _WRAPPED_WORDS.sub(r"\1", text).strip()
    return plain.casefold() if _WORDS.fullmatch(plain) else None


def resident_bytes() -> int:
    """Memory that this process holds. Not getrusage's ru_maxrss: a child inherits the peak of its parent."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize()


def main(cpu_seconds: float, memory_bytes: int) -> None:
    """Answer pairs until stdin ends, or until so much memory was used that a fresh process is safer."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no reply

    def reply(message: dict[str, bool]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    equivalent(r"\frac{1}{2}x+1", "1+x/2")  # builds the parser's tables, at nobody's expense
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
