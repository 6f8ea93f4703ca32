"""Structured concurrency for runs: many pieces of work, their results as they come, the rest cancelled on leaving."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from secondpass.strategies.api.errors import SURVIVABLE, BudgetExhausted, SecondpassError

T = TypeVar("T")
R = TypeVar("R")

Emit = Callable[[R], None]


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """A task group that raises the first error itself, not a group with one error in it."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise _first_of(errors) from errors


def _first_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Results(Generic[R]):
    """Results as they come, or (`in_order`) in the order of the items that gave them.

    `emitted` counts the results that there are, read or not. Iteration ends when all work has ended. It raises BudgetExhausted then if the budget kept work from being done,
    or the last failure if everything failed.
    """

    def __init__(self, *, in_order: bool) -> None:
        self._in_order = in_order
        self._send, self._receive = anyio.create_memory_object_stream[R](math.inf)
        self._held: dict[int, list[R]] = {}
        self._ended: set[int] = set()
        self._head = 0
        self.emitted = 0
        self._given = 0
        self._exhausted: BudgetExhausted | None = None
        self._failure: SecondpassError | None = None

    def emit(self, position: int, result: R) -> None:
        """A result of the item at `position`."""
        self.emitted += 1
        self._held.setdefault(position, []).append(result)
        self._release()

    def end(self, position: int, error: SecondpassError | None = None) -> None:
        """The item at `position` gives no more."""
        if isinstance(error, BudgetExhausted):
            self._exhausted = error
        elif error is not None:
            self._failure = error
        self._ended.add(position)
        self._release()

    def close(self) -> None:
        """All work has ended."""
        self._send.close()

    @property
    def is_exhausted(self) -> bool:
        """Did the budget keep a piece of work from being done?"""
        return self._exhausted is not None

    def _release(self) -> None:
        if not self._in_order:
            for position in list(self._held):
                self._give(position)
            return
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
            if self._exhausted is not None:
                raise self._exhausted from None
            if self._failure is not None and not self._given:
                raise self._failure from None
            raise StopAsyncIteration from None
        self._given += 1
        return result

    def abandon(self) -> None:
        """Nobody will read any further."""
        self._send.close()
        self._receive.close()


@asynccontextmanager
async def gather(
    work: Callable[[T, Emit[R]], Awaitable[None]],
    items: Iterable[T],
    *,
    width: int | None = None,
    in_order: bool = False,
) -> AsyncIterator[Results[R]]:
    """Run `work` over `items`, at most `width` at once, and give what it emits; leaving cancels what still runs.

    Work that runs out of budget keeps later items from starting. Errors that are not SURVIVABLE end the block.
    """
    results: Results[R] = Results(in_order=in_order)
    places = anyio.Semaphore(width) if width is not None else None

    async def lane(position: int, item: T) -> None:
        try:
            await work(item, lambda result: results.emit(position, result))
        except (BudgetExhausted, *SURVIVABLE) as error:
            results.end(position, error)
        else:
            results.end(position)
        finally:
            if places is not None:
                places.release()

    async def feed() -> None:
        async with anyio.create_task_group() as lanes:
            for position, item in enumerate(items):
                if places is not None:
                    await places.acquire()
                if results.is_exhausted:
                    break
                lanes.start_soon(lane, position, item)
        results.close()

    try:
        async with task_group() as group:
            group.start_soon(feed)
            yield results
            group.cancel_scope.cancel()
    finally:
        results.abandon()
