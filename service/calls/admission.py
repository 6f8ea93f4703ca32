"""Admission: an engine serves at most k calls at once, and the others wait in an order that serves their runs.

Label reads and rewards cost one token or none, and a whole draft may wait for one, so they go first. Then comes the
lowest index: the first drafts of every run before the last draft of any.
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
"""Lower ranks are served first: (0 for label reads and rewards, else 1; the call's index)."""

FIRST: Rank = (0, 0)
PLAIN: Rank = (1, 0)
"""A forwarded request waits like the first draft of a run."""


def rank_of(call: Call) -> Rank:
    """Where a call waits."""
    return (0 if call.labels or call.reward else 1, call.index)


@dataclass(slots=True, order=True)
class _Waiter:
    rank: Rank
    arrival: int
    admitted: anyio.Event = field(default_factory=anyio.Event, compare=False)


class Admission:
    """At most `max_concurrent_calls` slots of an engine taken at once; None sets no limit.

    Waiters get a slot by rank, then by arrival. Raises ValueError for a limit below 1.
    """

    def __init__(self, max_concurrent_calls: int | None = None) -> None:
        if max_concurrent_calls is not None and max_concurrent_calls < 1:
            raise ValueError("max_concurrent_calls must be at least 1")
        self.max_concurrent_calls = max_concurrent_calls
        self._in_flight = 0
        self._queue: list[_Waiter] = []
        self._arrivals = count()

    @property
    def in_flight(self) -> int:
        """Slots that are taken."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Calls and requests that wait for a slot."""
        return len(self._queue)

    @asynccontextmanager
    async def slot(self, rank: Rank = PLAIN) -> AsyncIterator[float]:
        """A slot for the block. Yields the seconds waited: 0.0 where one was free."""
        waited = 0.0
        if self.max_concurrent_calls is None or self._in_flight < self.max_concurrent_calls:
            self._in_flight += 1
        else:
            waited = await self._wait(rank)
        try:
            yield waited
        finally:
            self._leave()

    async def _wait(self, rank: Rank) -> float:
        waiter = _Waiter(rank, next(self._arrivals))
        insort(self._queue, waiter)
        start = anyio.current_time()
        is_in = False
        try:
            await waiter.admitted.wait()
            is_in = True
        finally:
            if not is_in:  # cancelled, perhaps at the moment in which a slot was handed over
                if waiter.admitted.is_set():
                    self._leave()
                else:
                    self._queue.remove(waiter)
        return anyio.current_time() - start

    def _leave(self) -> None:
        """Hand the slot to the next waiter: nothing that arrives in between can take it."""
        if self._queue:
            self._queue.pop(0).admitted.set()
        else:
            self._in_flight -= 1
