"""Admission control: limit the concurrent calls of an engine and queue the rest by priority.

Label reads and rewards cost at most one token and often block a whole draft, so they are admitted first. Other calls
are admitted by index: the first drafts of all runs come before the last draft of any run.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

import anyio

from secondpass.strategies.api.engine import Call

Rank: TypeAlias = tuple[int, int]
"""Queue priority, lowest first: (0 for label reads and rewards, 1 for other calls; the call's index)."""

HIGHEST_RANK: Rank = (0, 0)
FORWARDED_RANK: Rank = (1, 0)
"""Rank of a forwarded request: that of a run's first draft."""


def rank_of(call: Call) -> Rank:
    """Return the queue priority of a call."""
    return (0 if call.labels or call.reward else 1, call.index)


@dataclass(slots=True, order=True)
class _Waiter:
    rank: Rank
    arrival: int
    admitted: anyio.Event = field(default_factory=anyio.Event, compare=False)


class Admission:
    """Priority semaphore with `max_concurrent_calls` slots; None means unlimited.

    Waiters are admitted by rank, then by arrival. Raises ValueError for a limit below 1.
    """

    def __init__(self, max_concurrent_calls: int | None = None) -> None:
        if max_concurrent_calls is not None and max_concurrent_calls < 1:
            raise ValueError(
                f"max_concurrent_calls: must be at least 1, not {max_concurrent_calls}"
            )
        self.max_concurrent_calls = max_concurrent_calls
        self._in_flight = 0
        self._queue: list[_Waiter] = []
        self._arrivals = count()

    @property
    def in_flight(self) -> int:
        """Number of slots in use."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Number of calls and forwarded requests that wait for a slot."""
        return len(self._queue)

    @asynccontextmanager
    async def slot(self, rank: Rank = FORWARDED_RANK) -> AsyncIterator[float]:
        """Hold a slot for the block. Yields the seconds waited, 0.0 if a slot was free."""
        waited = 0.0
        if self.max_concurrent_calls is None or self._in_flight < self.max_concurrent_calls:
            self._in_flight += 1
        else:
            waited = await self._wait(rank)
        try:
            yield waited
        finally:
            self._release()

    async def _wait(self, rank: Rank) -> float:
        waiter = _Waiter(rank, next(self._arrivals))
        insort(self._queue, waiter)
        start = anyio.current_time()
        is_admitted = False
        try:
            await waiter.admitted.wait()
            is_admitted = True
        finally:
            if not is_admitted:  # cancelled, possibly just as a slot was granted
                if waiter.admitted.is_set():
                    self._release()
                else:
                    self._queue.remove(waiter)
        return anyio.current_time() - start

    def _release(self) -> None:
        """Pass the slot directly to the next waiter, so that a new arrival cannot take it."""
        if self._queue:
            self._queue.pop(0).admitted.set()
        else:
            self._in_flight -= 1
