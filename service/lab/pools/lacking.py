"""Draws what replays lack: each call once, however many runs wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import anyio

from secondpass.service.common.concurrency import task_group
from secondpass.service.lab.pools.drawing import draw
from secondpass.service.lab.pools.format import Sample, place_of
from secondpass.strategies.api.engine import Call, Engine
from secondpass.strategies.api.errors import EngineError

Draw = tuple[str, int, int | None]


def draw_of(call: Call) -> Draw:
    """Where in a pool the call's completion stands, and its cap: what a smaller one cuts is another draw."""
    return (*place_of(call, 0), call.sampling.max_tokens)


@dataclass
class _Pending:
    """A draw that somebody waits for."""

    ended: anyio.Event = field(default_factory=anyio.Event)
    error: EngineError | None = None


class Drawer:
    """Makes single calls of an `engine` that files what it finishes, `width` of them at once.

    `on_sample` sees each completion.
    """

    def __init__(self, engine: Engine, width: int, on_sample: Callable[[Sample], None]) -> None:
        self._engine, self._on_sample = engine, on_sample
        self._places = anyio.Semaphore(width)
        self._pending: dict[Draw, _Pending] = {}

    async def draw(self, calls: Iterable[Call]) -> None:
        """Draw all of them, and wait for those that are being drawn. Raises the first EngineError, once all have ended."""
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
        place = draw_of(call)
        if (pending := self._pending.get(place)) is not None:
            await pending.ended.wait()
            if pending.error is not None:
                raise pending.error
            return
        self._pending[place] = pending = _Pending()
        try:
            async with self._places:
                for sample in await draw(self._engine, call):
                    self._on_sample(sample)
        except EngineError as error:
            pending.error = error
            raise
        finally:
            del self._pending[place]
            pending.ended.set()
