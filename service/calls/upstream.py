"""An engine as calls use it: with its admission and its retry policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from secondpass.service.calls.admission import Admission
from secondpass.service.calls.retry import RetryPolicy
from secondpass.strategies.api.engine import Engine


@dataclass(frozen=True, slots=True)
class Upstream:
    """An engine, how many calls it serves at once, and how failed calls are retried.

    The roles that one engine plays share one `admission`.
    """

    engine: Engine
    admission: Admission = field(default_factory=Admission)
    retries: RetryPolicy = RetryPolicy()
