"""Structured concurrency for runs: lanes that stream results and are cancelled when the block is left."""

from __future__ import annotations

import math
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
)
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import coroutine
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from secondpass.strategies.api.errors import ITEM_ERRORS, BudgetExhausted, SecondpassError

T = TypeVar("T")
R = TypeVar("R")

Emit = Callable[[R], None]
OnFailure = Callable[[SecondpassError], None]


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """Open a task group that raises its first error instead of an exception group."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise _first_of(errors) from errors


async def unwrap_exception_group(work: Awaitable[T]) -> T:
    """Await `work`, raising the first error of an exception group instead of the group."""
    try:
        return await work
    except BaseExceptionGroup as errors:
        raise _first_of(errors) from errors


def _first_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Turn:
    """The start of one lane. The next lane starts when it ends."""

    def __init__(self) -> None:
        self._ended = anyio.Event()
        self.is_ended = False
        self.hold_count = 0

    def end(self) -> None:
        """Let the next lane start."""
        if not self.is_ended:
            self.is_ended = True
            self._ended.set()

    async def wait(self) -> None:
        """Wait for the end. Cancellable even if the lane never waits, unlike `TaskGroup.start` under trio."""
        await self._ended.wait()

    def suspend(self) -> None:
        """End the turn because the lane waits, unless `delay_next_lane` prevents it."""
        if not self.hold_count:
            self.end()


_turn: ContextVar[_Turn | None] = ContextVar("turn", default=None)


class delay_next_lane:  # noqa: N801 - a context manager, written as a class for speed
    """Delay the next lane while this lane waits within the block, until it has its first lease."""

    __slots__ = ("_turn",)

    def __enter__(self) -> None:
        self._turn = _turn.get()
        if self._turn is not None:
            self._turn.hold_count += 1

    def __exit__(self, *_: object) -> None:
        if self._turn is not None:
            self._turn.hold_count -= 1


def start_next_lane() -> None:
    """Let the next lane start because this lane has its first lease.

    Lanes therefore lease in the order of their items, so that a tight budget does not depend on the event loop.
    """
    if (turn := _turn.get()) is not None:
        turn.end()


@coroutine
def _ending_turn(work: Coroutine[Any, Any, None], turn: _Turn) -> Generator[Any, Any, None]:
    """Await `work`, suspending its `turn` whenever it waits."""
    resume: Callable[[Any], Any] = work.send
    value: Any = None
    while True:
        try:
            waiting = resume(value)
        except StopIteration:
            return
        finally:
            value = None  # the traceback of an error would otherwise refer to it
        turn.suspend()
        try:
            value = yield waiting
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown into the work
            resume, value = work.throw, error
        else:
            resume = work.send


async def _run_lane(work: Coroutine[Any, Any, None], turn: _Turn) -> None:
    """Run one lane. Its `turn` ends with the lane at the latest."""
    _turn.set(turn)
    try:
        await _ending_turn(work, turn)
    finally:
        turn.end()


async def run_all(*works: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run all `works` concurrently; the first error cancels the others.

    They start in order, like the lanes of `gather`.
    """

    async def lane(work: Callable[[], Coroutine[Any, Any, None]], turn: _Turn) -> None:
        await _run_lane(work(), turn)

    with delay_next_lane():
        async with task_group() as group:
            for work in works:
                turn = _Turn()
                group.start_soon(lane, work, turn)
                await turn.wait()
            start_next_lane()


class Results(Generic[R]):
    """Results as they are emitted, or with `in_order` in the order of their items.

    Iteration ends when all work has ended. If fewer than `min_results` were read and work failed, it then raises
    BudgetExhausted if the budget stopped any work, and the last failure otherwise.

    Attributes:
        unread: Results that were not read, filled by `abandon`.
    """

    def __init__(self, *, in_order: bool, min_results: int) -> None:
        self._in_order = in_order
        self._min_results = min_results
        self._send, self._receive = anyio.create_memory_object_stream[R](math.inf)
        self._buffered: dict[int, list[R]] = {}
        self._ended: set[int] = set()
        self._head = 0
        self._read = 0
        self._emitted = 0
        self._exhausted: BudgetExhausted | None = None
        self._failure: SecondpassError | None = None
        self.unread: list[R] = []

    def emit(self, position: int, result: R) -> None:
        """Add a result of the item at `position`."""
        self._emitted += 1
        if not self._in_order:
            self._send.send_nowait(result)
            return
        self._buffered.setdefault(position, []).append(result)
        self._release()

    def end(self, position: int, error: SecondpassError | None = None) -> None:
        """Record that the item at `position` emits no more results."""
        if isinstance(error, BudgetExhausted):
            self._exhausted = error
        elif error is not None:
            self._failure = error
        if self._in_order:
            self._ended.add(position)
            self._release()

    def close(self) -> None:
        """Record that all work has ended."""
        self._send.close()

    @property
    def emitted(self) -> int:
        """Number of results emitted, read or not."""
        return self._emitted

    @property
    def is_exhausted(self) -> bool:
        """True once the budget stopped any work."""
        return self._exhausted is not None

    def _release(self) -> None:
        """Send the results of all items up to and including the first unended one."""
        self._send_buffered(self._head)
        while self._head in self._ended:
            self._head += 1
            self._send_buffered(self._head)

    def _send_buffered(self, position: int) -> None:
        for result in self._buffered.pop(position, ()):
            self._send.send_nowait(result)

    def __aiter__(self) -> Results[R]:
        return self

    async def __anext__(self) -> R:
        try:
            result = await self._receive.receive()
        except anyio.EndOfStream:
            failure = self._exhausted or self._failure
            if failure is not None and self._read < self._min_results:
                raise failure from None
            raise StopAsyncIteration from None
        self._read += 1
        return result

    def abandon(self) -> None:
        """Stop reading and collect the `unread` results."""
        # The tracebacks of these errors refer to frames that refer to this object.
        self._failure = self._exhausted = None
        self._send.close()
        while self._receive.statistics().current_buffer_used:
            self.unread.append(self._receive.receive_nowait())
        for results in self._buffered.values():
            self.unread += results
        self._receive.close()


def _limiter(width: int | None) -> anyio.Semaphore | None:
    if width is None:
        return None
    if width < 1:
        raise ValueError(f"width: must be at least 1, not {width}")
    return anyio.Semaphore(width)


@asynccontextmanager
async def gather(
    work: Callable[[T, Emit[R]], Awaitable[None]],
    items: Iterable[T],
    *,
    width: int | None = None,
    in_order: bool = False,
    min_results: int = 1,
    on_failure: OnFailure = lambda _: None,
) -> AsyncIterator[Results[R]]:
    """Run `work` over `items` in concurrent lanes and stream the results.

    Leaving the block cancels running lanes.

    A lane starts once the previous lane has its first lease or waits for something else. Lanes of a nested block all
    start before the lane that follows. Once the budget stops an item, no later item starts. BudgetExhausted and
    ITEM_ERRORS end only their lane; any other error ends the block.

    Args:
        work: Called with an item and a function that emits a result.
        items: One lane each.
        width: Maximum concurrent lanes; None for no limit.
        in_order: Yield results in the order of the items.
        min_results: Results required for the iteration not to raise a failure.
        on_failure: Receives the error of each failed lane.

    Raises:
        ValueError: `width` is below 1.
    """
    limiter = _limiter(width)
    results: Results[R] = Results(in_order=in_order, min_results=min_results)

    async def lane(position: int, item: T, turn: _Turn) -> None:
        failure: SecondpassError | None = None

        async def perform() -> None:
            await work(item, lambda result: results.emit(position, result))

        try:
            await _run_lane(perform(), turn)
        except (BudgetExhausted, *ITEM_ERRORS) as error:
            failure = error
            on_failure(error)
        finally:
            results.end(position, failure)
            failure = None  # the traceback of the error refers to this frame
            if limiter is not None:
                limiter.release()

    async def feed() -> None:
        async with anyio.create_task_group() as lanes:
            for position, item in enumerate(items):
                if limiter is not None:
                    if not limiter.value:
                        start_next_lane()
                    await limiter.acquire()
                if results.is_exhausted:
                    break
                turn = _Turn()
                lanes.start_soon(lane, position, item, turn)
                await turn.wait()
            start_next_lane()
        results.close()

    try:
        with delay_next_lane():
            async with task_group() as group:
                group.start_soon(feed)
                yield results
                group.cancel_scope.cancel()
    finally:
        results.abandon()
