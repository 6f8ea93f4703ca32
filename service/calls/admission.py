"""Admission: an engine sees at most k calls at once, and the others wait in an order that serves their runs.

Judge reads cost one token and a whole draft may wait for one, so they go first. Then comes the lowest index: the
first drafts of every run before the last draft of any.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import anyio

from secondpass.service.calls.wrapper import EngineWrapper
from secondpass.strategies.api.engine import Call, Delta, Engine, PlainReply, PlainRequest
from secondpass.strategies.api.errors import EngineUnavailable
from secondpass.strategies.api.values import Role

OVERLOADED_SECONDS = 1.0
_PLAIN = (1, 0)
"""A forwarded request waits like the first draft of a run."""


@dataclass(slots=True, order=True)
class _Waiter:
    is_draft: int
    index: int
    arrival: int
    admitted: anyio.Event = field(default_factory=anyio.Event, compare=False)


class LimitedEngine(EngineWrapper):
    """At most `max_concurrent_calls` of `engine` in flight, streams and forwarded requests together.

    Waiters are served label reads and rewards first, then by lower `Call.index`, then by arrival. With `max_waiting` a
    call that finds that many waiting raises EngineUnavailable at once.
    """

    def __init__(
        self, engine: Engine, max_concurrent_calls: int, *, max_waiting: int | None = None
    ) -> None:
        if max_concurrent_calls < 1:
            raise ValueError("max_concurrent_calls must be at least 1")
        super().__init__(engine)
        self.max_concurrent_calls = max_concurrent_calls
        self.max_waiting = max_waiting
        self._in_flight = 0
        self._queue: list[_Waiter] = []
        self._arrivals = count()

    @property
    def in_flight(self) -> int:
        """Calls that the engine has now."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Calls that wait for their admission."""
        return len(self._queue)

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """The engine's deltas, after the notices "queued" and "admitted" where the call had to wait."""
        rank = (0 if call.labels or call.reward else 1, call.index)
        is_queued = self._in_flight >= self.max_concurrent_calls
        if is_queued:
            yield Delta(notice="queued")
        async with self._admission(rank, call.role) as waited:
            if is_queued:
                yield Delta(notice="admitted", waited=waited or 0.0)
            async with aclosing(self.engine.stream(call)) as deltas:
                async for delta in deltas:
                    yield delta

    @asynccontextmanager
    async def forward(self, request: PlainRequest) -> AsyncIterator[PlainReply]:
        """The engine's reply, once admitted; the place is held until the block is left."""
        async with self._admission(_PLAIN), self.engine.forward(request) as reply:
            yield reply

    @asynccontextmanager
    async def _admission(
        self, rank: tuple[int, int], role: Role | None = None
    ) -> AsyncIterator[float | None]:
        """A place in the engine for the block. Yields the seconds waited; None where a place was free."""
        waited = None
        if self._in_flight < self.max_concurrent_calls:
            self._in_flight += 1
        else:
            waited = await self._wait(rank, role)
        try:
            yield waited
        finally:
            self._leave()

    async def _wait(self, rank: tuple[int, int], role: Role | None) -> float:
        if self.max_waiting is not None and self.waiting >= self.max_waiting:
            raise EngineUnavailable(
                f"overloaded: {self.in_flight} calls run and {self.waiting} wait",
                engine=self.name,
                role=role,
                retry_after=OVERLOADED_SECONDS,
            )
        waiter = _Waiter(*rank, next(self._arrivals))
        insort(self._queue, waiter)
        start = anyio.current_time()
        is_in = False
        try:
            await waiter.admitted.wait()
            is_in = True
        finally:
            if not is_in:  # cancelled, perhaps in the moment in which a place was handed over
                if waiter.admitted.is_set():
                    self._leave()
                else:
                    self._queue.remove(waiter)
        return anyio.current_time() - start

    def _leave(self) -> None:
        """Hand the place to the next waiter: nobody who arrives in between can take it."""
        if self._queue:
            self._queue.pop(0).admitted.set()
        else:
            self._in_flight -= 1
