"""When a failed call is attempted again, and after which pause."""

from __future__ import annotations

from dataclasses import dataclass

from tenacity import RetryCallState, wait_random_exponential

from secondpass.strategies.api.errors import EngineUnavailable, StreamCut


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

    def may_retry(self, failure: BaseException) -> bool:
        """Whether another attempt may succeed, of a call of which nothing was delivered."""
        if isinstance(failure, StreamCut):
            return True
        if not isinstance(failure, EngineUnavailable) or not failure.may_retry:
            return False
        return (failure.retry_after or 0.0) <= self.longest_pause

    def pause(self, state: RetryCallState) -> float:
        """Seconds before the next attempt."""
        backoff = wait_random_exponential(multiplier=self.first_pause, max=self.longest_pause)
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after if isinstance(failure, EngineUnavailable) else None
        return max(backoff(state), asked or 0.0)
