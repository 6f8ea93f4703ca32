"""The resource benchmark measures the whole process tree, and its votes start every comparison worker."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import resources

pytestmark = [pytest.mark.anyio, pytest.mark.serial]

SLEEPER = "import sys; held = bytearray(64 * 2**20); print(flush=True); sys.stdin.read()"


def test_memory_of_a_process_tree_includes_child_processes() -> None:
    alone = resources.memory_of_tree(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.readline()
        assert resources.memory_of_tree(os.getpid()) - alone > 60 * 2**20
        assert resources.memory_of(child.pid) > 60 * 2**20
        child.communicate()
    assert resources.memory_of(child.pid) == 0


async def test_every_case_runs_and_roots_start_both_workers(tmp_path: Path) -> None:
    with resources.running(tmp_path) as (port, server):
        idle, chats, _, votes, *_, roots, _ = resources.cases(port)
        measured = []
        for case in (idle, chats, votes, roots):
            few = case.traffic and replace(case.traffic, clients=4)
            small = replace(case, traffic=few).reduced(0)
            measured.append(await resources.measure(small, server, idle_seconds=0.1))
    assert [used.requests for used in measured] == [0, 4, 4, 4]
    assert measured[-1].processes == 3
    assert all(used.memory > 50 * 2**20 for used in measured)
    table = resources.report(measured)
    assert all(used.name in table for used in measured)
