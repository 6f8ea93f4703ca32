"""Running sandboxes of the test process."""

import os
import subprocess


def sandboxes() -> list[str]:
    """Return the running sandboxes of this process. Zombies of killed sandboxes are excluded."""
    command = ["ps", "-o", "stat=,args=", "--ppid", str(os.getpid())]
    processes = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in processes.stdout.splitlines() if "bwrap" in line and line[0] != "Z"]
