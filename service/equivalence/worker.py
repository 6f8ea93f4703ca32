r"""Worker process that evaluates the formulas of one answer and may be killed at any time.

`service.equivalence` starts it, which keeps the evaluation of hostile formulas out of the server process. The protocol is
JSON lines. The worker writes {"ready": true} once it is ready, then answers each value on stdin with
{"value": resolved value, "retire": bool}. With `retire` true, the worker exits after this reply. It also exits when stdin
closes.

The kernel enforces the limits. ITIMER_PROF counts only the CPU time of this process, so a loaded machine does not kill a
harmless evaluation. Its signal ends the process even inside a long C call, where Python's handlers would have to wait.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from secondpass.service.equivalence.numeric import resolve


def resident_bytes() -> int:
    """Return the resident memory of this process.

    ru_maxrss is not usable: a child process inherits its parent's peak.
    """
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize()


def main(cpu_seconds: float, memory_bytes: int) -> None:
    """Resolve values until stdin closes or resident memory exceeds half of the limit.

    Args:
        cpu_seconds: CPU time limit of one value.
        memory_bytes: Limit of the address space.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # keep library output out of the replies

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    resolve(["tree", ["sqrt", ["num", "2"]]])  # compute constants before the first timed value
    reply({"ready": True})
    for line in sys.stdin.buffer:
        value = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        resolved = resolve(value)
        signal.setitimer(signal.ITIMER_PROF, 0)
        retire = resident_bytes() > memory_bytes // 2
        reply({"value": resolved, "retire": retire})
        if retire:
            return
