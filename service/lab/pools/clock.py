"""Time that passes only in sleeps: a recorded hour is replayed in the time that its computations take.

A run on this loop is the same run as ever: timeouts, deadlines and `anyio.current_time` all follow the loop's clock. It
does not tick while code runs, and jumps to the next timer once nothing else can go on. asyncio only.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Where the loop would wait for its next timer, the time is put forward instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.holds = 0
        self.idlers: list[Callable[[], None]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None and not self.holds and self.idlers:
            if not (ready := super().select(0)):
                woken, self.idlers = self.idlers, []
                for wake in woken:
                    wake()
            return ready
        if timeout is None or self.holds:
            # Nobody waits for a time, or time stands still: only the outside world can go on.
            return super().select(0 if timeout is not None and timeout <= 0 else None)
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock begins at 0 and jumps, see the module."""

    def __init__(self) -> None:
        self._clock = _Jumping()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def reset_clock(self) -> None:
        """Begin the time anew. Nobody may be waiting for one."""
        self._clock.now = 0.0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let no time pass within the block, which waits for something outside of this process."""
        self._clock.holds += 1
        try:
            yield
        finally:
            self._clock.holds -= 1

    async def wait_until_idle(self) -> None:
        """Wait until nothing else on this loop can go on, now or at any later time."""
        event = asyncio.Event()
        self._clock.idlers.append(event.set)
        await event.wait()


async def reset_clock() -> None:
    """`VirtualLoop.reset_clock` where such a loop runs, and nothing elsewhere.

    Sums of times are rounded by how large they are, and what happens at one time would come in another order in a later run.
    """
    await anyio.lowlevel.checkpoint()  # the loop forgets the timers that were cancelled
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        loop.reset_clock()


async def wait_until_idle() -> None:
    """`VirtualLoop.wait_until_idle` where such a loop runs, and no wait elsewhere."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        await loop.wait_until_idle()


@contextmanager
def pause_clock() -> Iterator[None]:
    """`VirtualLoop.hold` where such a loop runs, and nothing elsewhere."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        with loop.hold():
            yield
    else:
        yield


def run_virtually(work: Callable[..., Awaitable[T]], *args: Any) -> T:
    """`anyio.run` on a virtual loop."""
    return anyio.run(work, *args, backend_options={"loop_factory": VirtualLoop})
