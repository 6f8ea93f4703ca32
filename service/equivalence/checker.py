"""Evaluation of mathematical answers in killable worker processes.

The server parses answers in linear time and computes rational values of bounded size. Other formulas are hostile input to
any numeric library, whose calls no Python timeout can interrupt. `worker` evaluates them, and the kernel kills it when its
CPU time is used up. Each answer is evaluated once, alone, so that equality does not depend on pairs or their order. Undecided
answers equal only answers of the same form.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from secondpass.service.equivalence.fair_queue import Allowance, FairQueue
from secondpass.service.equivalence.worker_process import Worker, WorkerFailed, WorkerFailure
from secondpass.strategies.answers.forms.form import NormalForm
from secondpass.strategies.answers.forms.normal_form import normal_form
from secondpass.strategies.answers.forms.partition import partition

__all__ = ["Allowance", "Equivalence", "WorkerFailed"]

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
    """Exact evaluation of answers, with a CPU time and memory limit on each.

    An async context manager. Any number of tasks may call it concurrently; they share `workers` processes, round-robin
    over runs.

    Attributes:
        undecided: Number of evaluations that killed their worker, timed out, or exceeded their run's allowance.
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
            cpu_seconds: CPU time limit of one answer.
            wall_seconds: Wall-clock limit of one answer.
            memory_bytes: Address space limit of one worker.
            remembered: Number of evaluated answers to cache.
        """
        self._cpu_seconds = cpu_seconds
        self._wall_seconds = wall_seconds
        self._memory_bytes = memory_bytes
        self._queue = FairQueue(workers)
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._decided: _Recent[str, list[Any] | WorkerFailure] = _Recent(remembered)
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
        """Return whether two answers are equal as the only answers of a run; False if undecided. Symmetric.

        `allowance` is that of `resolved`.
        """
        if a == b:
            return True
        spendable = allowance or Allowance()
        forms = [normal_form(a), normal_form(b)]
        resolved = [await self.resolved(form, spendable) for form in forms]
        one, other = partition(forms if spendable.is_spent else resolved)
        return one == other

    async def resolved(self, form: NormalForm, allowance: Allowance) -> NormalForm:
        """Return a normal form with its formulas evaluated; unchanged if it has none or they are undecided.

        Forms without formulas need no worker. `allowance` belongs to the calling run and is charged for each form that
        exhausts a worker, also if that is known already. Once it is spent, forms that are not cached stay unchanged.
        """
        if not _has_trees([form.value, form.equation]):
            return form
        request = [form.value, form.equation or []]
        key = json.dumps(request)
        found = self._decided.recall(key)
        if found is None and not allowance.is_spent:
            async with self._queue.slot(allowance):
                found = await self._resolve(key, request, allowance)
        elif isinstance(found, WorkerFailure):
            allowance.left -= 1
        if found is None or isinstance(found, WorkerFailure):
            self.undecided += 1
            return form
        value, equation = found
        return replace(form, value=value, equation=equation or None)

    async def _resolve(
        self, key: str, request: list[Any], allowance: Allowance
    ) -> list[Any] | WorkerFailure | None:
        """Return the cached or computed result; None if the allowance was spent in the queue."""
        found = self._decided.recall(key)
        if found is None:
            if allowance.is_spent:
                return None
            found = await self._ask(request)
            if found is not WorkerFailure.LOST:
                self._decided.store(key, found)
        if isinstance(found, WorkerFailure):
            allowance.left -= 1
        return found

    async def _ask(self, request: list[Any]) -> list[Any] | WorkerFailure:
        try:
            async with self._worker() as worker:
                return await worker.resolve(request, wall_seconds=self._wall_seconds)
        except WorkerFailed:
            return WorkerFailure.LOST

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


def _has_trees(value: Any) -> bool:
    """Return whether a value has parts that only a worker evaluates."""
    if not isinstance(value, list):
        return False
    return bool(value and value[0] in ("tree", "equation", "relation")) or any(
        map(_has_trees, value)
    )
