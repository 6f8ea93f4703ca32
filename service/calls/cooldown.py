"""Waiting period of an overloaded engine, shared by all calls to it.

Without it, each call would learn of the overload by a request of its own.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from secondpass.service.calls.retry import can_wait
from secondpass.strategies.api.errors import DEFAULT_RETRY_AFTER, EngineUnavailable

TRIAL_SECONDS = 1.0
"""Seconds after which a running trial counts as accepted: an overloaded engine replies at once."""


class Cooldown:
    """Waiting period after a 429 or 503 of an engine.

    No call starts before the period has passed. Then one call, the trial, starts alone. Calls that wait for the trial share
    its result: they start once the engine accepts it, and fail as unavailable if the engine is still overloaded.
    """

    def __init__(self) -> None:
        self._ends_at = -math.inf
        self._reply: EngineUnavailable | None = (
            None  # of the overloaded engine; None once it accepts
        )
        self._trial: anyio.Event | None = None
        self._trial_ends_at = -math.inf

    @property
    def remaining(self) -> float:
        """Seconds until the next call may start, at least 0."""
        return 0.0 if self._reply is None else max(0.0, self._ends_at - anyio.current_time())

    @asynccontextmanager
    async def passed(self, max_wait: float) -> AsyncIterator[float]:
        """Run the block once the engine may be called. Yield the seconds waited.

        An EngineUnavailable of the block with `is_overloaded` starts a new period.

        Raises:
            EngineUnavailable: The period ends after more than `max_wait` seconds or after the caller's deadline, or the
                trial found the engine overloaded.
        """
        trial, waited = None, 0.0
        if self._reply is not None:
            start = anyio.current_time()
            trial = await self._wait(max_wait)
            waited = anyio.current_time() - start
        try:
            yield waited
        except EngineUnavailable as error:
            if error.is_overloaded:
                self._extend(error)
            raise
        finally:
            if trial is not None:
                self._end_trial(trial)

    async def _wait(self, max_wait: float) -> anyio.Event | None:
        """Wait for the end of the period. Return the event of a new trial, or None if the engine accepts calls."""
        while self._reply is not None:
            while (remaining := self.remaining) > 0:
                if not can_wait(remaining, max_wait):
                    raise self._unavailable(self._reply)
                await anyio.sleep(remaining)
            if self._trial is None:
                self._trial = anyio.Event()
                self._trial_ends_at = anyio.current_time() + TRIAL_SECONDS
                return self._trial
            with anyio.CancelScope(deadline=self._trial_ends_at) as timeout:
                await self._trial.wait()
                if self.remaining:
                    raise self._unavailable(self._reply)
            if timeout.cancelled_caught:
                self._trial = self._reply = None
        return None

    def _end_trial(self, trial: anyio.Event) -> None:
        if self._trial is trial:
            self._trial = None
            if not self.remaining:
                self._reply = None
        trial.set()

    def _extend(self, error: EngineUnavailable) -> None:
        seconds = DEFAULT_RETRY_AFTER if error.retry_after is None else error.retry_after
        self._ends_at = max(self._ends_at, anyio.current_time() + seconds)
        self._reply = error

    def _unavailable(self, reply: EngineUnavailable) -> EngineUnavailable:
        """Return the error of a call that was not sent because of an earlier `reply`."""
        return EngineUnavailable(
            str(reply), engine=reply.engine, retry_after=self.remaining, is_overloaded=True
        )
