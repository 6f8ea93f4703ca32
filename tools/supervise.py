"""Run a command and end all processes that it started, in any session.

    python -m tools.supervise GRACE COMMAND...

SIGINT, SIGTERM and SIGHUP interrupt the command as Ctrl-C does, so that it can clean up. GRACE seconds later it is
killed. The exit status is that of the command, or 128 plus the number of the signal that ended it.
"""

import os
import signal
import sys
import time
from math import inf

from tools.process_tree import POLL_SECONDS, adopt_orphans, end_descendants, reap

KILL_SECONDS = 5.0


def supervise(command: list[str], grace: float) -> int:
    """Run `command` and return its exit status once all its descendants have ended.

    Raises OSError if it cannot be executed.
    """
    requests: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: requests.append(number))
    adopt_orphans()
    child = os.posix_spawnp(command[0], command, os.environ, setsid=True)
    deadline = inf
    while (status := reap().get(child)) is None:
        if requests and deadline == inf:
            os.kill(child, signal.SIGINT)
            deadline = time.monotonic() + grace
        elif time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    end_descendants(KILL_SECONDS)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[2:], float(sys.argv[1])))
