"""When a failed request to an engine is attempted again, and after which pause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_always,
    stop_never,
    wait_random_exponential,
)

from secondpass.strategies.api.errors import EngineUnavailable, SecondpassError, StreamInterrupted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` attempts of a call whose engine is unavailable or whose stream is cut.

    The pause before the next one is random, up to `first_pause` seconds and twice as much each time; an engine that
    says when to come back is believed, up to `longest_pause` seconds. Raises ValueError for `attempts` below 1.
    """

    attempts: int = 3
    first_pause: float = 0.2
    longest_pause: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1")

    async def run(
        self,
        attempt: Callable[[int], Awaitable[T]],
        *,
        first: int = 1,
        may_follow: Callable[[SecondpassError, int], bool] | None = None,
    ) -> T:
        """The result of `attempt`, which gets its number, counted from `first`; raises what the last one raised.

        `may_follow` (default: `may_retry`) says whether another attempt follows the one that failed.
        """
        may_follow = may_follow or self.may_retry

        # tenacity's objects form a reference cycle: given the call or its errors, they would keep both until a collection.
        async for each in AsyncRetrying(
            sleep=anyio.sleep, stop=stop_never, wait=self._pause, retry=retry_always
        ):
            number = first + each.retry_state.attempt_number - 1
            try:
                return await attempt(number)
            except SecondpassError as failure:
                if not may_follow(failure, number):
                    raise
                asked = failure.retry_after if isinstance(failure, EngineUnavailable) else None
            each.retry_state.set_result(asked or 0.0)
        raise AssertionError("another attempt follows, unless one returns or raises")

    def may_retry(self, failure: BaseException, number: int) -> bool:
        """Whether attempt `number` may be followed by another one that does not continue it."""
        if number >= self.attempts:
            return False
        if isinstance(failure, StreamInterrupted):
            return True
        if not isinstance(failure, EngineUnavailable) or not failure.may_retry:
            return False
        return (failure.retry_after or 0.0) <= self.longest_pause

    def _pause(self, state: RetryCallState) -> float:
        """Seconds before the next attempt: at least what the engine asked for, which is the last attempt's result."""
        backoff = wait_random_exponential(multiplier=self.first_pause, max=self.longest_pause)
        return max(backoff(state), state.outcome.result() if state.outcome else 0.0)
