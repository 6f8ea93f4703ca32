"""Waiting period of an overloaded engine, shared by all calls to it.

Without it, each call would learn of the overload by a request of its own.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from secondpass.service.calls.retry import RetryPolicy, can_wait
from secondpass.strategies.api.errors import DEFAULT_RETRY_AFTER, EngineUnavailable

MAX_PERIOD_SECONDS = 300.0
"""Longest waiting period: a trial follows, although the engine's Retry-After may be as long as a day."""

TRIAL_SECONDS = 1.0
"""Seconds after which a running trial counts as accepted: an overloaded engine replies at once."""


@dataclass(slots=True, eq=False)
class _Period:
    """One waiting period: the time of its end, and the trial that follows.

    `reply` is the engine's last one, and `number` counts the periods since the engine last accepted a call, from 1.
    """

    reply: EngineUnavailable
    number: int
    ends_at: float = -math.inf
    trial: anyio.Event | None = None
    trial_ends_at: float = math.inf

    def extend(self, reply: EngineUnavailable) -> None:
        seconds = DEFAULT_RETRY_AFTER if reply.retry_after is None else reply.retry_after
        seconds = min(seconds, MAX_PERIOD_SECONDS)
        self.ends_at = max(self.ends_at, anyio.current_time() + seconds)
        self.reply = reply

    @property
    def remaining(self) -> float:
        return max(0.0, self.ends_at - anyio.current_time())

    def unavailable(self) -> EngineUnavailable:
        """Return the error of a call that was not sent because of the engine's last reply."""
        return EngineUnavailable(
            str(self.reply),
            engine=self.reply.engine,
            retry_after=self.remaining,
            may_retry=self.reply.may_retry,
            is_overloaded=True,
        )


class Cooldown:
    """Waiting period after a 429 or 503 of an engine.

    No call starts before the period has passed. Then one call, the trial, starts alone. All calls that waited share its
    result: they start once the engine accepts it, and fail as unavailable if the engine is still overloaded. Calls share
    their attempts too: after more periods in succession than a call has attempts, no call is retried.
    """

    def __init__(self) -> None:
        self._period: _Period | None = None  # None while the engine accepts calls

    @property
    def remaining(self) -> float:
        """Seconds until the next call may start, at least 0."""
        return 0.0 if self._period is None else self._period.remaining

    @asynccontextmanager
    async def passed(self, policy: RetryPolicy) -> AsyncIterator[float]:
        """Run the block once the engine may be called. Yield the seconds waited.

        An EngineUnavailable of the block with `is_overloaded` starts or extends a period.

        Raises:
            EngineUnavailable: The period ends after more than the policy's `max_backoff` or after the caller's deadline, or
                the trial found the engine overloaded.
        """
        tested, waited = None, 0.0
        if self._period is not None:
            start = anyio.current_time()
            tested = await self._wait(policy.max_backoff)
            waited = anyio.current_time() - start
        try:
            yield waited
        except EngineUnavailable as error:
            if error.is_overloaded:
                if self._period in (None, tested):
                    self._period = _Period(error, 1 + (tested.number if tested else 0))
                self._period.extend(error)
                error.may_retry = error.may_retry and self._period.number <= policy.attempts
            raise
        finally:
            if tested is not None and tested.trial is not None:
                if self._period is tested and not tested.remaining:
                    self._period = None
                tested.trial.set()
                tested.trial = None

    async def _wait(self, max_wait: float) -> _Period | None:
        """Wait for the end of the period and its trial.

        Return the period if the caller is its trial, or None if the engine accepts calls.
        """
        if (period := self._period) is None:
            return None
        while (remaining := period.remaining) > 0:
            if not can_wait(remaining, max_wait):
                raise period.unavailable()
            await anyio.sleep(remaining)
        while self._period is period:
            if period.trial is None:
                period.trial = anyio.Event()
                period.trial_ends_at = anyio.current_time() + TRIAL_SECONDS
                return period
            with anyio.CancelScope(deadline=period.trial_ends_at) as timeout:
                await period.trial.wait()
            if timeout.cancelled_caught and self._period is period:
                self._period = None
        if self._period is not None:
            raise self._period.unavailable()
        return None
