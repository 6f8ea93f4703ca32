"""An engine with its admission control and retry policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from secondpass.service.calls.admission import Admission
from secondpass.service.calls.retry import RetryPolicy
from secondpass.strategies.api.engine import Engine


@dataclass(frozen=True, slots=True)
class Upstream:
    """An engine, its admission control and its retry policy.

    Roles that share an engine share one `admission`.
    """

    engine: Engine
    admission: Admission = field(default_factory=Admission)
    retries: RetryPolicy = RetryPolicy()
