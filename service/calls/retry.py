"""Retry policy for engine calls, with exponential backoff."""

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
    """At most `attempts` attempts of a call when the engine is unavailable or the stream is interrupted.

    The backoff before a retry is random, between 0 and `initial_backoff` seconds; the bound doubles with each retry, up to
    `max_backoff` seconds. A call is not retried if the engine's Retry-After is longer, or ends after the deadline of the
    caller. A shorter one is the minimum backoff. Raises ValueError for `attempts` below 1.
    """

    attempts: int = 3
    initial_backoff: float = 0.2
    max_backoff: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts: must be at least 1, not {self.attempts}")

    async def run(
        self,
        attempt: Callable[[int], Awaitable[T]],
        *,
        first: int = 1,
        can_retry: Callable[[SecondpassError, int], bool] | None = None,
    ) -> T:
        """Await `attempt(number)`, numbered from `first`, until one succeeds; return its result.

        Raises the error of the last attempt. `can_retry(error, number)` returns whether another attempt follows; the
        default is `may_retry`.
        """
        can_retry = can_retry or self.may_retry

        # tenacity's objects form a reference cycle, so they must not reference the call or its errors.
        async for each in AsyncRetrying(
            sleep=anyio.sleep, stop=stop_never, wait=self._pause, retry=retry_always
        ):
            number = first + each.retry_state.attempt_number - 1
            try:
                return await attempt(number)
            except SecondpassError as failure:
                if not can_retry(failure, number):
                    raise
                each.retry_state.set_result(_minimum_pause(failure))
        raise AssertionError("the retry loop ended without a result")

    def may_retry(self, failure: BaseException, number: int) -> bool:
        """Return whether attempt `number` can be retried after `failure`."""
        if number >= self.attempts:
            return False
        if isinstance(failure, StreamInterrupted):
            return True
        if not isinstance(failure, EngineUnavailable) or not failure.may_retry:
            return False
        return can_wait(failure.retry_after or 0.0, self.max_backoff)

    def _pause(self, state: RetryCallState) -> float:
        """Return the seconds to wait, at least the Retry-After that the last attempt returned."""
        backoff = wait_random_exponential(multiplier=self.initial_backoff, max=self.max_backoff)
        return max(backoff(state), state.outcome.result() if state.outcome else 0.0)


def _minimum_pause(failure: SecondpassError) -> float:
    """Return the seconds of Retry-After; 0 for an overload, which the engine's cooldown waits for."""
    if not isinstance(failure, EngineUnavailable) or failure.is_overloaded:
        return 0.0
    return failure.retry_after or 0.0


def can_wait(seconds: float, max_wait: float) -> bool:
    """Return whether `seconds` are at most `max_wait` and end before the deadline of the caller."""
    end = anyio.current_time() + seconds
    return seconds <= max_wait and (not seconds or end < anyio.current_effective_deadline())
