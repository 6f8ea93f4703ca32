"""Fair scheduling of a few worker slots: round-robin over runs, FIFO within a run."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Allowance:
    """Remaining number of comparisons of one run that may kill their worker or time out."""

    def __init__(self, left: int = 3) -> None:
        self.left = left

    @property
    def is_spent(self) -> bool:
        """True if none are left."""
        return self.left <= 0


class FairQueue:
    """Semaphore with `slots` slots, granted round-robin over keys and FIFO within a key."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: OrderedDict[object, deque[anyio.Event]] = OrderedDict()

    @asynccontextmanager
    async def slot(self, key: object) -> AsyncIterator[None]:
        """Hold a slot for the block. `key` identifies the run and must be hashable."""
        await self._acquire(key)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, key: object) -> None:
        if self._free:
            self._free -= 1
            return
        granted = anyio.Event()
        self._waiting.setdefault(key, deque()).append(granted)
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self._release()
            else:
                self._remove(key, granted)
            raise

    def _release(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        key, queue = self._waiting.popitem(last=False)
        queue.popleft().set()
        if queue:
            self._waiting[key] = queue  # at the end of the rotation

    def _remove(self, key: object, event: anyio.Event) -> None:
        queue = self._waiting[key]
        queue.remove(event)
        if not queue:
            del self._waiting[key]
