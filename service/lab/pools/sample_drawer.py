"""Draw the calls that replays are missing; concurrent requests for one call share a draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import anyio

from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.concurrency import task_group
from secondpass.service.lab.pools.drawing import draw
from secondpass.service.lab.pools.format import Sample, place_of
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import EngineError

DrawKey = tuple[str, int, int | None]


def draw_key(call: Call) -> DrawKey:
    """Return (key, index, limit) of the call; a completion truncated by a smaller limit is another draw."""
    return (*place_of(call, 0), call.sampling.max_tokens)


@dataclass
class _Pending:
    """A draw in progress."""

    ended: anyio.Event = field(default_factory=anyio.Event)
    error: EngineError | None = None


class SampleDrawer:
    """Drawer of single calls from a recording engine, at most `width` concurrently.

    `on_sample` is called with each completion.
    """

    def __init__(self, upstream: Upstream, width: int, on_sample: Callable[[Sample], None]) -> None:
        self._upstream, self._on_sample = upstream, on_sample
        self._slots = anyio.Semaphore(width)
        self._pending: dict[DrawKey, _Pending] = {}

    async def draw(self, calls: Iterable[Call]) -> None:
        """Draw all calls, or wait for draws in progress. Raises the first EngineError once all have ended."""
        errors: list[EngineError] = []

        async def one(call: Call) -> None:
            try:
                await self._draw(call)
            except EngineError as error:
                errors.append(error)

        async with task_group() as group:
            for call in calls:
                group.start_soon(one, call)
        if errors:
            raise errors[0]

    async def _draw(self, call: Call) -> None:
        key = draw_key(call)
        if (pending := self._pending.get(key)) is not None:
            await pending.ended.wait()
            if pending.error is not None:
                raise pending.error
            return
        self._pending[key] = pending = _Pending()
        try:
            async with self._slots:
                for sample in await draw(self._upstream, call):
                    self._on_sample(sample)
        except EngineError as error:
            pending.error = error
            raise
        finally:
            del self._pending[key]
            pending.ended.set()
