"""Refused API keys: a count and a rate-limited log line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

from starlette.types import Scope

from secondpass.service.common.errors import Unauthorized, excerpt
from secondpass.service.common.logs import escape_controls

FAILURE_LINE_SECONDS = 60.0
"""Minimum seconds between two log lines about refused API keys."""

logger = logging.getLogger(__name__)


class AuthFailures:
    """Refused API keys: each is counted, and at most one log line per minute reports them.

    Args:
        count: Counts one refusal, by its reason.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        count: Callable[[Literal["missing", "unknown"]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count, self._clock = count, clock
        self._unreported = 0
        self._last_line = -FAILURE_LINE_SECONDS

    def record(self, error: Unauthorized, scope: Scope) -> None:
        """Count and report the refusal of a request. Its key is not part of the line."""
        self._count(error.reason)
        self._unreported += 1
        now = self._clock()
        if now - self._last_line < FAILURE_LINE_SECONDS:
            return
        client = scope.get("client")
        peer = escape_controls(excerpt(str(client[0]))) if client else "an unknown address"
        logger.warning(
            "requests with a missing or unknown API key: %d; the last came from %s",
            self._unreported,
            peer,
        )
        self._unreported, self._last_line = 0, now
