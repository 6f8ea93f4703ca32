"""An engine with its admission control and retry policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from secondpass.service.calls.admission import Admission
from secondpass.service.calls.retry import RetryPolicy
from secondpass.strategies.api.engine import Engine


@dataclass(frozen=True, slots=True)
class Upstream:
    """An engine, its admission control and its retry policy.

    Attributes:
        engine: The engine.
        admission: Limit of concurrent calls; by default unlimited. Roles that share an engine share one.
        retries: Retry policy; by default at most 3 attempts.
    """

    engine: Engine
    admission: Admission = field(default_factory=Admission)
    retries: RetryPolicy = RetryPolicy()
