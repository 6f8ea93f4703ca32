"""The sandboxes that a test has started."""

import os
import subprocess


def sandboxes() -> list[str]:
    """Sandboxes of this process that are still running. A killed one takes a moment to end, and stays as a zombie."""
    command = ["ps", "-o", "stat=,args=", "--ppid", str(os.getpid())]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if "bwrap" in line and line[0] != "Z"]
