import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from secondpass.service.equivalence.checker import Allowance, Equivalence, WorkerFailed
from secondpass.service.equivalence.worker_process import WorkerFailure
from secondpass.testing.support import ON_BOTH_BACKENDS
from tools.process_tree import is_running

TOWER = "9^{9^{9^{9^9}}}"
MEMORY = 64 * 2**20
"""Limit that a worker can start with, but of which it uses more than half."""


@pytest.fixture
async def equivalence() -> AsyncIterator[Equivalence]:
    async with Equivalence() as equivalence:
        yield equivalence


def pids(equivalence: Equivalence) -> list[int]:
    return [worker._process.pid for worker in equivalence._workers]


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.anyio
async def test_equivalent_answers_are_the_same(equivalence: Equivalence) -> None:
    for a, b in [
        ("1/2", "0.5"),
        (r"\frac{1}{2}", "1/2"),
        ("2x+1", "1+2x"),
        (r"\sqrt{27}", r"3\sqrt{3}"),
        ("x=5", "5"),
        ("[1,2]", r"x\in[1,2]"),
        (r"2\frac{1}{2}", "2.5"),
        (r"\text{Ellipse}", "ellipse"),
        (r"\begin{pmatrix}1\\1/2\end{pmatrix}", r"\begin{pmatrix}1\\0.5\end{pmatrix}"),
        ("18 apples", "18"),
    ]:
        assert await equivalence.same(a, b), (a, b)
        assert await equivalence.same(b, a), (b, a)
    assert equivalence.undecided == 0


@pytest.mark.anyio
async def test_different_answers_are_different(equivalence: Equivalence) -> None:
    for a, b in [
        ("(1,2)", "(2,1)"),
        ("1", "2"),
        ("0.1", "0.10000001"),
        ("2x", "3x"),
        ("listen", "silent"),
        ("[1,2)", "(1,2)"),
        (r"\frac{1}{", "1"),
        ("1/0", "2/0"),
        ("", "0"),
        ("\ud800", "1"),
        ("\x00\n{}}}{", r"\\\\"),
        (r"\undefined{x}", r"\begin{matrix}"),
    ]:
        assert not await equivalence.same(a, b), (a, b)
        assert not await equivalence.same(b, a), (b, a)
    assert equivalence.undecided == 0


@pytest.mark.anyio
async def test_equal_texts_and_numbers_are_decided_without_a_worker(
    equivalence: Equivalence,
) -> None:
    assert await equivalence.same(TOWER, TOWER)
    assert await equivalence.same("x" * 5000, "x" * 5000)
    assert await equivalence.same("1/2", "0.50")
    assert not await equivalence.same("3", "4")
    assert not await equivalence.same("1" * 3000, "1")
    assert not await equivalence.same("x+1" + " " * 2000, "1")
    assert not await equivalence.same("{" * 101 + "1" + "}" * 101, "1")
    assert pids(equivalence) == []
    assert equivalence.undecided == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    "hostile", [TOWER, "(((9!)!)!)!", "x^{9^{9^9}}", "e^{e^{e^{e^e}}}", "(9!)!!"]
)
async def test_values_of_unbounded_size_are_equal_only_to_their_own_form(
    equivalence: Equivalence, hostile: str
) -> None:
    await equivalence.warm()
    start = time.monotonic()
    assert not await equivalence.same(hostile, "2x+1")
    assert await equivalence.same(hostile, f"$ {hostile} $")
    assert time.monotonic() - start < 1
    assert equivalence.undecided == 0


class FakeWorkers:
    """Fake workers that record all values: those with a symbol Q exhaust a worker."""

    def __init__(self, equivalence: Equivalence, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        monkeypatch.setattr(equivalence, "_ask", self.ask)

    async def ask(self, request: list[Any]) -> list[Any] | WorkerFailure:
        self.asked.append(str(request))
        await anyio.sleep(0.01)
        return WorkerFailure.EXHAUSTED if "'Q'" in str(request) else request


@pytest.mark.anyio
async def test_a_worker_out_of_cpu_time_is_killed_and_the_next_answer_is_evaluated() -> None:
    async with Equivalence(cpu_seconds=0.05) as equivalence:
        await equivalence.warm()
        hard = "+".join(f"\\binom{{{n}000x+y}}{{{n}00y+x}}" for n in range(2, 20))
        assert not await equivalence.same(hard, "2x+1")
        assert equivalence.undecided == 1
        assert await equivalence.same("2x+1", "1+2x")


@pytest.mark.anyio
async def test_a_hostile_answer_costs_cpu_time_once(
    equivalence: Equivalence, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = FakeWorkers(equivalence, monkeypatch)
    for number in range(2, 22):
        assert not await equivalence.same("Q+1", f"{number}x")
    assert sum("'Q'" in each for each in workers.asked) == 1
    assert equivalence.undecided == 20


@pytest.mark.anyio
async def test_a_run_cannot_exceed_its_allowance(
    equivalence: Equivalence, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, allowance = FakeWorkers(equivalence, monkeypatch), Allowance()
    assert not await equivalence.same("x", "y", allowance)
    for number in range(2, 22):
        assert not await equivalence.same(f"{number}Q", "x", allowance)
    assert len(workers.asked) == 5
    assert allowance.is_spent
    assert equivalence.undecided == 20
    # Evaluated answers are cached, and other runs are not charged.
    assert not await equivalence.same("x", "y", allowance)
    assert equivalence.undecided == 20
    assert not await equivalence.same("z", "w", Allowance())
    assert len(workers.asked) == 7


@pytest.mark.anyio
async def test_an_allowance_covers_concurrent_comparisons(
    equivalence: Equivalence, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, allowance = FakeWorkers(equivalence, monkeypatch), Allowance()
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(equivalence.same, f"{number + 2}Q", "7", allowance)
    assert len(workers.asked) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("is_cached", [False, True])
async def test_a_cached_failure_is_charged_like_a_new_one(
    equivalence: Equivalence, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    FakeWorkers(equivalence, monkeypatch)
    if is_cached:
        assert not await equivalence.same("2Q", "3Q", Allowance())
    allowance = Allowance()
    assert not await equivalence.same("2Q", "3Q", allowance)
    assert allowance.left == 1


@pytest.mark.anyio
async def test_a_harmless_comparison_waits_one_turn_of_each_hostile_run(
    equivalence: Equivalence, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = FakeWorkers(equivalence, monkeypatch)
    async with anyio.create_task_group() as group:
        for run in range(6):
            allowance = Allowance(left=100)
            for number in range(20):
                group.start_soon(equivalence.same, f"{number + 2}Q+{run}", "7", allowance)
        await anyio.wait_all_tasks_blocked()
        before = len(workers.asked)
        await equivalence.same("x", "7")
        assert workers.asked.index(str([["tree", ["sym", "x"]], []])) - before <= 7
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_waiting_does_not_count_as_cpu_time() -> None:
    async with Equivalence(cpu_seconds=2.0) as equivalence:
        await equivalence.warm()
        (pid,) = pids(equivalence)
        os.kill(pid, signal.SIGSTOP)
        async with anyio.create_task_group() as group:
            group.start_soon(equivalence.same, "2x+1", "1+2x")
            await anyio.sleep(3.0)
            os.kill(pid, signal.SIGCONT)
        assert pids(equivalence) == [pid]
        assert equivalence.undecided == 0


@pytest.mark.anyio
async def test_a_hung_worker_is_replaced_and_its_answer_evaluated_again() -> None:
    async with Equivalence(wall_seconds=0.5) as equivalence:
        await equivalence.warm()
        os.kill(pids(equivalence)[0], signal.SIGSTOP)
        assert not await equivalence.same("2x+1", "1+2x")
        assert equivalence.undecided == 1
    async with Equivalence() as equivalence:
        await equivalence.warm()
        os.kill(pids(equivalence)[0], signal.SIGSTOP)
        with anyio.move_on_after(0.2) as scope:
            await equivalence.same("2x+1", "1+2x")
        assert scope.cancelled_caught
        assert await equivalence.same("2x+1", "1+2x")


@pytest.mark.anyio
async def test_an_idle_worker_that_died_is_replaced(equivalence: Equivalence) -> None:
    await equivalence.warm()
    (pid,) = pids(equivalence)
    os.kill(pid, signal.SIGKILL)
    with anyio.fail_after(5):
        await next(iter(equivalence._workers))._process.wait()
    assert await equivalence.same("2x+1", "1+2x")
    assert equivalence.undecided == 0


@pytest.mark.anyio
async def test_the_memory_of_the_parent_does_not_retire_a_worker() -> None:
    ballast = b"x" * (600 * 2**20)  # above the retirement threshold of half the memory limit
    async with Equivalence() as equivalence:
        await equivalence.warm()
        started = pids(equivalence)
        assert await equivalence.same("2x+1", "1+2x")
        assert pids(equivalence) == started
    del ballast


@pytest.mark.anyio
async def test_a_worker_above_half_of_its_memory_limit_retires() -> None:
    async with Equivalence(memory_bytes=MEMORY) as equivalence:
        assert await equivalence.same("2x+1", "1+2x")
        assert pids(equivalence) == []
        assert await equivalence.same("2x+2", "2+2x")
        assert equivalence.undecided == 0


@pytest.mark.anyio
@pytest.mark.parametrize("executable", ["/bin/false", "/nowhere/python"])
async def test_a_worker_that_cannot_start_fails_warm_up_and_leaves_answers_undecided(
    equivalence: Equivalence, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(WorkerFailed):
        await equivalence.warm()
    assert not await equivalence.same("2x+1", "1+2x")
    assert equivalence.undecided == 2
    assert pids(equivalence) == []


@pytest.mark.anyio
async def test_evaluated_answers_are_cached(
    equivalence: Equivalence, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await equivalence.same("2x+1", "1+2x")
    monkeypatch.setattr(equivalence, "_ask", None)
    assert await equivalence.same("1+2x", "2x+1")


@pytest.mark.anyio
async def test_the_cache_is_bounded() -> None:
    async with Equivalence(remembered=3) as equivalence:
        for number in range(6):
            assert not await equivalence.same("y", f"{number}x")
        assert len(equivalence._decided) == 3


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_replies_reach_the_right_caller_despite_cancellations() -> None:
    wrong: list[str] = []
    finished = 0

    async def caller(index: int, equivalence: Equivalence) -> None:
        nonlocal finished
        left, same = f"{index}x+1", index % 3 > 0
        right = f"1+{index}x" if same else f"2+{index}x"
        timeout = 0.003 * (index % 7) if index % 2 else 60.0
        with anyio.move_on_after(timeout) as scope:
            if await equivalence.same(left, right) != same:
                wrong.append(f"{left} {right}")
        finished += not scope.cancelled_caught

    async with Equivalence(workers=2) as equivalence:
        for start in range(0, 160, 40):
            async with anyio.create_task_group() as group:
                for index in range(start, start + 40):
                    group.start_soon(caller, index, equivalence)
        assert len(pids(equivalence)) <= 2
        assert await equivalence.same("2x+1", "1+2x")
    assert wrong == []
    assert equivalence.undecided == 0
    assert finished >= 80


@pytest.mark.anyio
async def test_all_workers_are_killed_on_exit() -> None:
    with anyio.CancelScope() as scope:
        async with Equivalence(workers=2) as equivalence:
            await equivalence.warm()
            started = pids(equivalence)
            async with anyio.create_task_group() as group:
                for number in range(200):
                    group.start_soon(equivalence.same, f"\\sqrt{{{number}+\\sqrt{{2}}}}", "x")
                while len(pids(equivalence)) < 2:
                    await anyio.sleep(0.01)
                started += pids(equivalence)
                scope.cancel()
    assert len(started) == 3
    assert not any(exists(pid) for pid in started)


@pytest.mark.faults
def test_workers_end_when_the_server_is_killed() -> None:
    code = (
        "import anyio\n"
        "from secondpass.service.equivalence.checker import Equivalence\n"
        "async def main():\n"
        "    async with Equivalence() as equivalence:\n"
        "        await equivalence.warm()\n"
        "        print(*(worker._process.pid for worker in equivalence._workers), flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root) as server:
        assert server.stdout
        (pid,) = map(int, server.stdout.readline().split())
        assert is_running(pid)
        server.kill()
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def test_the_server_process_never_imports_the_library_that_evaluates_formulas() -> None:
    code = "import sys, secondpass.service.equivalence.checker; sys.exit('mpmath' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
