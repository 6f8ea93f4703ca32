"""Equivalence checker for mathematical answers, backed by killable worker processes.

Model output is hostile input to a computer algebra system: a tower of powers keeps sympy busy indefinitely inside one C
call, which no Python timeout can interrupt. The server therefore never parses an answer. `worker` does, and the kernel
kills it when its CPU time is used up. Undecided pairs count as different.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from types import TracebackType
from typing import Generic, Self, TypeVar

from secondpass.service.equivalence.fair_queue import Allowance, FairQueue
from secondpass.service.equivalence.worker_process import ComparisonResult, Worker, WorkerFailed
from secondpass.strategies.answers.task import MAX_BRACE_DEPTH, brace_depth

__all__ = ["MAX_LENGTH", "Allowance", "Equivalence", "WorkerFailed"]

MAX_LENGTH = 2000
"""Maximum characters of a parsed answer; longer answers are compared as text only."""

_TRIVIAL = "0"
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+|/0*[1-9]\d*)?", re.ASCII)

K = TypeVar("K")
V = TypeVar("V")


class _Recent(OrderedDict[K, V], Generic[K, V]):
    """LRU cache with at most `size` entries."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def recall(self, key: K) -> V | None:
        """Return the value of `key` and mark it as used; None if it is missing."""
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key]

    def store(self, key: K, value: V) -> None:
        """Set the value of `key` and evict the least recently used entry above `size`."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._size:
            self.popitem(last=False)


class Equivalence:
    """Answer equivalence by math-verify, with a CPU time and memory limit on each comparison.

    An async context manager. Any number of tasks may call `same` concurrently; they share `workers` processes,
    round-robin over runs.

    Attributes:
        undecided: Number of comparisons that killed their worker, timed out, or exceeded their run's allowance.
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
        """Create a checker without workers; they start on demand.

        Args:
            workers: Maximum number of worker processes.
            cpu_seconds: CPU time limit of one comparison.
            wall_seconds: Wall-clock limit of one comparison.
            memory_bytes: Address space limit of one worker.
            remembered: Number of decided pairs to cache.
        """
        self._cpu_seconds = cpu_seconds
        self._wall_seconds = wall_seconds
        self._memory_bytes = memory_bytes
        self._queue = FairQueue(workers)
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._decided: _Recent[tuple[str, str], ComparisonResult] = _Recent(remembered)
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
        """Start a worker and wait until it is ready. Raises WorkerFailed."""
        async with self._queue.slot(object()), self._worker():
            pass

    async def same(self, a: str, b: str, allowance: Allowance | None = None) -> bool:
        """Return whether two answers are mathematically equivalent; False if undecided.

        Symmetric. Equal texts and plain numbers need no worker; very long or deeply nested texts are not sent to one.
        `allowance` belongs to the calling run (None: a fresh one) and is charged for each comparison that exhausts a
        worker. Once it is spent, pairs that are not cached return False immediately.
        """
        if a == b:
            return True
        numbers = _number(a), _number(b)
        if None not in numbers and (numbers[0] == numbers[1] or "/" not in a + b):
            return numbers[0] == numbers[1]
        if not (_is_parsable(a) and _is_parsable(b)):
            return False
        spendable = allowance or Allowance()
        verdict = self._decided.recall(_ordered(a, b))
        if verdict is None and not spendable.is_spent:
            async with self._queue.slot(spendable):
                verdict = await self._verdict(a, b, spendable)
        if verdict in (None, ComparisonResult.EXHAUSTED, ComparisonResult.LOST):
            self.undecided += 1
        return verdict is ComparisonResult.SAME

    async def _verdict(self, a: str, b: str, allowance: Allowance) -> ComparisonResult | None:
        """Return the cached or computed verdict on a pair; None if the allowance is spent.

        A text that was in a pair that exhausted a worker is first compared alone. A hostile answer therefore costs CPU
        time at most twice, rather than once per comparison.
        """
        pair = _ordered(a, b)
        if known := self._decided.recall(pair):
            return known
        if allowance.is_spent:
            return None
        for text in pair:
            if text in self._suspects and pair != (trivial := _ordered(text, _TRIVIAL)):
                if await self._verdict(*trivial, allowance) is ComparisonResult.EXHAUSTED:
                    return ComparisonResult.EXHAUSTED
                self._suspects.pop(text, None)
        verdict = await self._ask(*pair)
        if verdict in (ComparisonResult.EXHAUSTED, ComparisonResult.LOST):
            allowance.left -= 1
        if verdict is not ComparisonResult.LOST:
            self._decided.store(pair, verdict)
        if verdict is ComparisonResult.EXHAUSTED:
            for text in pair:
                self._suspects.store(text, None)
        return verdict

    async def _ask(self, a: str, b: str) -> ComparisonResult:
        try:
            async with self._worker() as worker:
                return await worker.compare(a, b, wall_seconds=self._wall_seconds)
        except WorkerFailed:
            return ComparisonResult.LOST

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[Worker]:
        """Yield a ready worker; return it to the idle pool if it is still usable."""
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


def _is_parsable(text: str) -> bool:
    return len(text) <= MAX_LENGTH and brace_depth(text) <= MAX_BRACE_DEPTH


def _number(text: str) -> Fraction | None:
    """Return the value of a plain decimal or fraction; None for any other text."""
    return Fraction(text) if len(text) <= MAX_LENGTH and _NUMBER.fullmatch(text) else None
