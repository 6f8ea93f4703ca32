"""Who is served next where few places are wanted by many: each run in its turn, so that none can starve another."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Allowance:
    """What one run may burn: `left` comparisons that no worker survives or finishes in time."""

    def __init__(self, left: int = 3) -> None:
        self.left = left

    @property
    def is_spent(self) -> bool:
        """Is nothing left of it?"""
        return self.left <= 0


class Turns:
    """`places` that are held for a while and then passed on: by turns to those who wait, to each in its own order."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: OrderedDict[object, deque[anyio.Event]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, who: object) -> AsyncIterator[None]:
        """Hold a place while the block lasts. `who` is told from others by its identity or equality."""
        await self._take(who)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, who: object) -> None:
        if self._free:
            self._free -= 1
            return
        mine = anyio.Event()
        self._waiting.setdefault(who, deque()).append(mine)
        try:
            await mine.wait()
        except BaseException:
            if mine.is_set():
                self._pass_on()
            else:
                self._leave(who, mine)
            raise

    def _pass_on(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        who, queue = self._waiting.popitem(last=False)
        queue.popleft().set()
        if queue:
            self._waiting[who] = queue  # behind all others

    def _leave(self, who: object, event: anyio.Event) -> None:
        queue = self._waiting[who]
        queue.remove(event)
        if not queue:
            del self._waiting[who]
