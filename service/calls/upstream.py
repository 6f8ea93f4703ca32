"""An engine with its admission control, cooldown and retry policy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from secondpass.service.calls.admission import Admission, Rank
from secondpass.service.calls.cooldown import Cooldown
from secondpass.service.calls.retry import RetryPolicy
from secondpass.strategies.api.engine import Engine


@dataclass(frozen=True, slots=True)
class Upstream:
    """An engine, its admission control, its cooldown and its retry policy.

    Attributes:
        engine: The engine.
        admission: Limit of concurrent calls; by default unlimited. Roles that share an engine share one.
        retries: Retry policy; by default at most 3 attempts.
        cooldown: Waiting period of the engine after an overload.
    """

    engine: Engine
    admission: Admission = field(default_factory=Admission)
    retries: RetryPolicy = RetryPolicy()
    cooldown: Cooldown = field(default_factory=Cooldown)

    @asynccontextmanager
    async def slot(self, rank: Rank) -> AsyncIterator[float]:
        """Hold an admission slot for one request, outside of a waiting period. Yield the seconds waited.

        Raises:
            EngineUnavailable: The engine is overloaded; see `Cooldown.passed`.
        """
        waited = 0.0
        while True:
            async with (
                self.cooldown.passed(self.retries) as cooled,
                self.admission.slot(rank) as queued,
            ):
                waited += cooled + queued
                if self.cooldown.remaining:
                    continue  # the engine became overloaded while this call was queued
                yield waited
                return
