"""Event loop with virtual time: a recorded hour is replayed in the time its computations take.

Timeouts, deadlines and `anyio.current_time` follow the loop's clock. The clock does not advance while code runs and jumps to
the next timer when no task can continue. asyncio only.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Selector that advances the clock instead of waiting for the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.pauses = 0
        self.idle_callbacks: list[Callable[[], None]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None and not self.pauses and self.idle_callbacks:
            if not (ready := super().select(0)):
                woken, self.idle_callbacks = self.idle_callbacks, []
                for wake in woken:
                    wake()
            return ready
        if timeout is None or self.pauses:
            # No timer is due, or the clock is paused: only I/O can wake the loop.
            return super().select(0 if timeout is not None and timeout <= 0 else None)
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Event loop whose clock starts at 0 and jumps to the next timer."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def reset_clock(self) -> None:
        """Set the clock to 0. No timer may be pending."""
        self._clock.now = 0.0

    @contextmanager
    def pause_clock(self) -> Iterator[None]:
        """Pause the clock within the block, which waits for I/O outside of this process."""
        self._clock.pauses += 1
        try:
            yield
        finally:
            self._clock.pauses -= 1

    async def wait_until_idle(self) -> None:
        """Wait until no other task on this loop can continue, now or later."""
        event = asyncio.Event()
        self._clock.idle_callbacks.append(event.set)
        await event.wait()


async def reset_clock() -> None:
    """Reset the clock if the running loop is a `VirtualLoop`; otherwise do nothing.

    The rounding of time sums depends on their size. Without a reset, simultaneous events of a later run could change
    their order.
    """
    await anyio.lowlevel.checkpoint()  # lets the loop remove cancelled timers
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        loop.reset_clock()


async def wait_until_idle() -> None:
    """Wait for `VirtualLoop.wait_until_idle` if such a loop is running; otherwise return at once."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        await loop.wait_until_idle()


@contextmanager
def pause_clock() -> Iterator[None]:
    """Pause the clock if the running loop is a `VirtualLoop`; otherwise do nothing."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        with loop.pause_clock():
            yield
    else:
        yield


def run_virtually(work: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run `work` with `anyio.run` on a `VirtualLoop`."""
    return anyio.run(work, *args, backend_options={"loop_factory": VirtualLoop})
