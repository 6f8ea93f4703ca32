"""Structured concurrency for runs: many pieces of work, their results as they come, the others cancelled on leaving."""

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
    """A task group that raises the first error itself, not a group with one error in it."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise _first_of(errors) from errors


async def first_error_of(work: Awaitable[T]) -> T:
    """Await the work; of an exception group, as its own task groups raise, the first error is raised instead."""
    try:
        return await work
    except BaseExceptionGroup as errors:
        raise _first_of(errors) from errors


def _first_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Turn:
    """The start of one lane, which delays the start of the next one."""

    def __init__(self) -> None:
        self._over = anyio.Event()
        self.is_over = False
        self.holds = 0

    def end(self) -> None:
        """Let the next lane start."""
        if not self.is_over:
            self.is_over = True
            self._over.set()

    async def wait(self) -> None:
        """Wait for its end. Can be cancelled even if the lane never waits, unlike `TaskGroup.start` under trio."""
        await self._over.wait()

    def suspend(self) -> None:
        """Note that the lane waits: for its first lease, or else the next lane need not wait for this one."""
        if not self.holds:
            self.end()


_turn: ContextVar[_Turn | None] = ContextVar("turn", default=None)


class hold_turn:  # noqa: N801 - a context manager, as a class for its speed
    """Keep the next lane from starting while this one waits within the block, for its first lease or on the way to it."""

    __slots__ = ("_held",)

    def __enter__(self) -> None:
        self._held = _turn.get()
        if self._held is not None:
            self._held.holds += 1

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.holds -= 1


def pass_turn() -> None:
    """Let the next lane start, for this one has its first lease.

    Lanes lease in the order of their items by that, so that a tight budget is spent alike under every event loop.
    """
    if (turn := _turn.get()) is not None:
        turn.end()


@coroutine
def _watched(work: Coroutine[Any, Any, None], turn: _Turn) -> Generator[Any, Any, None]:
    """Await `work`, and note in its `turn` whenever it waits."""
    resume: Callable[[Any], Any] = work.send
    value: Any = None
    while True:
        try:
            waiting = resume(value)
        except StopIteration:
            return
        finally:
            value = None  # an error would refer to this frame by its traceback
        turn.suspend()
        try:
            value = yield waiting
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it is thrown into the work
            resume, value = work.throw, error
        else:
            resume = work.send


async def _in_turn(work: Coroutine[Any, Any, None], turn: _Turn) -> None:
    """Run one lane; end its `turn`, so that the next lane starts, at the latest when the lane ends."""
    _turn.set(turn)
    try:
        await _watched(work, turn)
    finally:
        turn.end()


async def all_at_once(*works: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run all works at once, which start as the lanes of `gather` do; the first error cancels the others."""

    async def lane(work: Callable[[], Coroutine[Any, Any, None]], turn: _Turn) -> None:
        await _in_turn(work(), turn)

    with hold_turn():
        async with task_group() as group:
            for work in works:
                turn = _Turn()
                group.start_soon(lane, work, turn)
                await turn.wait()
            pass_turn()


class Results(Generic[R]):
    """Results as they come, or (`in_order`) in the order of the items that gave them.

    `unread` are those that nobody has read. Iteration ends when all work has ended. It raises then where there were fewer than
    `min_results` and something failed: BudgetExhausted if the budget kept work from being done, else the last failure.
    """

    def __init__(self, *, in_order: bool, min_results: int) -> None:
        self._in_order = in_order
        self._min_results = min_results
        self._send, self._receive = anyio.create_memory_object_stream[R](math.inf)
        self._held: dict[int, list[R]] = {}
        self._ended: set[int] = set()
        self._head = 0
        self._given = 0
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
        self._held.setdefault(position, []).append(result)
        self._release()

    def end(self, position: int, error: SecondpassError | None = None) -> None:
        """Note that the item at `position` gives no more."""
        if isinstance(error, BudgetExhausted):
            self._exhausted = error
        elif error is not None:
            self._failure = error
        if self._in_order:
            self._ended.add(position)
            self._release()

    def close(self) -> None:
        """Note that all work has ended."""
        self._send.close()

    @property
    def emitted(self) -> int:
        """How many results there are, read or not."""
        return self._emitted

    @property
    def is_exhausted(self) -> bool:
        """True once the budget kept a piece of work from being done."""
        return self._exhausted is not None

    def _release(self) -> None:
        """Send the results of all items up to the first one that has not ended."""
        self._give(self._head)
        while self._head in self._ended:
            self._head += 1
            self._give(self._head)

    def _give(self, position: int) -> None:
        for result in self._held.pop(position, ()):
            self._send.send_nowait(result)

    def __aiter__(self) -> Results[R]:
        return self

    async def __anext__(self) -> R:
        try:
            result = await self._receive.receive()
        except anyio.EndOfStream:
            failure = self._exhausted or self._failure
            if failure is not None and self._given < self._min_results:
                raise failure from None
            raise StopAsyncIteration from None
        self._given += 1
        return result

    def abandon(self) -> None:
        """Stop: nobody reads any further."""
        self._send.close()
        while self._receive.statistics().current_buffer_used:
            self.unread.append(self._receive.receive_nowait())
        for results in self._held.values():
            self.unread += results
        self._receive.close()


def _places(width: int | None) -> anyio.Semaphore | None:
    if width is None:
        return None
    if width < 1:
        raise ValueError(f"width: at least 1, not {width}")
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
    """Run `work` over `items`, at most `width` at once, and give what it emits; leaving cancels what still runs.

    Lanes start in the order of the items, each once the one before it has its first lease or waits for something else; and
    those of a block within a lane all before the lane after that one. After work that does not fit into the budget no
    later item starts. `on_failure` gets every failure; errors that are neither ITEM_ERRORS nor of the budget end the block.
    Raises ValueError for a `width` below 1.
    """
    places = _places(width)
    results: Results[R] = Results(in_order=in_order, min_results=min_results)

    async def lane(position: int, item: T, turn: _Turn) -> None:
        failure: SecondpassError | None = None

        async def perform() -> None:
            await work(item, lambda result: results.emit(position, result))

        try:
            await _in_turn(perform(), turn)
        except (BudgetExhausted, *ITEM_ERRORS) as error:
            failure = error
            on_failure(error)
        finally:
            results.end(position, failure)
            if places is not None:
                places.release()

    async def feed() -> None:
        async with anyio.create_task_group() as lanes:
            for position, item in enumerate(items):
                if places is not None:
                    if not places.value:
                        pass_turn()
                    await places.acquire()
                if results.is_exhausted:
                    break
                turn = _Turn()
                lanes.start_soon(lane, position, item, turn)
                await turn.wait()
            pass_turn()
        results.close()

    try:
        with hold_turn():
            async with task_group() as group:
                group.start_soon(feed)
                yield results
                group.cancel_scope.cancel()
    finally:
        results.abandon()
