"""Every descendant of a process is found and ended, even after its parent has exited."""

import subprocess
import sys

CODE = """
import os, subprocess, time
from tools.process_tree import adopt_orphans, descendants, end_descendants
adopt_orphans()
family = "setsid sleep 600 & env -i sleep 600 & (exec setsid sh -c 'sleep 600 & sleep 600') & exit"
subprocess.run(["sh", "-c", family])
while len(descendants(os.getpid())) < 5:
    time.sleep(0.01)
print(len(end_descendants(10)), len(descendants(os.getpid())))
print(len(open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()))
"""


def test_all_descendants_end_and_no_zombie_remains() -> None:
    output = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True
    )

    assert output.stdout == "0 0\n0\n"
