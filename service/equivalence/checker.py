"""Decides whether two mathematical answers are equivalent, in worker processes that can be killed.

What a model writes is hostile input to a computer algebra system: a tower of powers keeps sympy busy for ever,
inside one C call that no Python timeout can end. So the server never parses an answer; `worker` does, and
the kernel ends it after its share of CPU time. What could not be decided counts as different.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from types import TracebackType
from typing import Generic, Self, TypeVar

from secondpass.service.equivalence.fair_queue import Allowance, Turns
from secondpass.service.equivalence.worker_process import Equality, Worker, WorkerFailed
from secondpass.strategies.answers.task import MAX_BRACE_DEPTH, brace_depth

__all__ = ["MAX_LENGTH", "Allowance", "Equivalence", "WorkerFailed"]

MAX_LENGTH = 2000
"""Longer answers (characters) are compared as text only."""

_TRIVIAL = "0"
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+|/0*[1-9]\d*)?", re.ASCII)

K = TypeVar("K")
V = TypeVar("V")


class _Recent(OrderedDict[K, V], Generic[K, V]):
    """A mapping that forgets what was used least recently."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def recall(self, key: K) -> V | None:
        """The value of `key`, which counts as a use; None where there is none."""
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key]

    def keep(self, key: K, value: V) -> None:
        """Set the value of `key` and forget the oldest one if there are too many."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._size:
            self.popitem(last=False)


class Equivalence:
    """Compares answers by math-verify, each comparison within its own CPU time and memory.

    An async context manager; `same` may be called by any number of tasks at once, which wait for one of `workers`
    processes, the runs among them by turns. `undecided` counts the comparisons that no worker survived or finished
    in time, or that their run had no allowance for.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        cpu_seconds: float = 1.0,
        wall_seconds: float = 10.0,
        memory_bytes: int = 2**30,
        remembered: int = 10_000,
    ) -> None:
        """`cpu_seconds` and `wall_seconds` are per comparison; `remembered` is how many decided pairs are kept."""
        self._cpu_seconds = cpu_seconds
        self._wall_seconds = wall_seconds
        self._memory_bytes = memory_bytes
        self._turns = Turns(workers)
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._decided: _Recent[tuple[str, str], Equality] = _Recent(remembered)
        self._suspects: _Recent[str, None] = _Recent(remembered)
        self.undecided = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in tuple(self._workers):
            await self._discard(worker)

    async def warm(self) -> None:
        """Start a worker ahead of time, and wait until it can work. Raises WorkerFailed if it cannot."""
        async with self._turns.turn(object()), self._worker():
            pass

    async def same(self, a: str, b: str, allowance: Allowance | None = None) -> bool:
        """Whether two answers are mathematically equivalent; False when that could not be decided.

        Symmetric. Equal texts and plain numbers need no worker, and very long or very deep texts get none.
        `allowance` is the asking run's (None: the call is a run of its own): what exhausts a worker is taken from
        it, and once it is spent a pair that is not known yet is False at once.
        """
        if a == b:
            return True
        numbers = _exactly(a), _exactly(b)
        if None not in numbers and (numbers[0] == numbers[1] or "/" not in a + b):
            return numbers[0] == numbers[1]
        if not (_is_readable(a) and _is_readable(b)):
            return False
        mine = allowance or Allowance()
        verdict = self._decided.recall(_ordered(a, b))
        if verdict is None and not mine.is_spent:
            async with self._turns.turn(mine):
                verdict = await self._verdict(a, b, mine)
        if verdict in (None, Equality.EXHAUSTED, Equality.LOST):
            self.undecided += 1
        return verdict is Equality.SAME

    async def _verdict(self, a: str, b: str, allowance: Allowance) -> Equality | None:
        """What is known or can be found out about a pair.

        A text that once exhausted a worker, in whatever pair, is first tried by itself. So an answer made to burn
        time does it twice, and not once for each answer that it is compared with. None: it may not be found out.
        """
        pair = _ordered(a, b)
        if known := self._decided.recall(pair):
            return known
        if allowance.is_spent:
            return None
        for text in pair:
            if text in self._suspects and pair != (alone := _ordered(text, _TRIVIAL)):
                if await self._verdict(*alone, allowance) is Equality.EXHAUSTED:
                    return Equality.EXHAUSTED
                self._suspects.pop(text, None)
        verdict = await self._ask(*pair)
        if verdict in (Equality.EXHAUSTED, Equality.LOST):
            allowance.left -= 1
        if verdict is not Equality.LOST:
            self._decided.keep(pair, verdict)
        if verdict is Equality.EXHAUSTED:
            for text in pair:
                self._suspects.keep(text, None)
        return verdict

    async def _ask(self, a: str, b: str) -> Equality:
        try:
            async with self._worker() as worker:
                return await worker.compare(a, b, wall_seconds=self._wall_seconds)
        except WorkerFailed:
            return Equality.LOST

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[Worker]:
        """A worker that is ready; it goes back to the idle ones if it can be used again."""
        worker = await self._take()
        try:
            await worker.ready()
            yield worker
        finally:
            if worker.is_alive:
                self._idle.append(worker)
            else:
                await self._discard(worker)

    async def _take(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            await self._discard(worker)
        worker = await Worker.start(self._cpu_seconds, self._memory_bytes)
        self._workers.add(worker)
        return worker

    async def _discard(self, worker: Worker) -> None:
        self._workers.discard(worker)
        await worker.aclose()


def _ordered(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a <= b else (b, a)


def _is_readable(text: str) -> bool:
    return len(text) <= MAX_LENGTH and brace_depth(text) <= MAX_BRACE_DEPTH


def _exactly(text: str) -> Fraction | None:
    """The value of a plain decimal or fraction; None for anything else."""
    return Fraction(text) if len(text) <= MAX_LENGTH and _NUMBER.fullmatch(text) else None
