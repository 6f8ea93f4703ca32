"""Log lines that clients can cause: limited in number, and without control characters of their own."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LINES_PER_MINUTE = 10
"""Lines of one kind that are written in a minute.

A kind is a logger, a level, a message template and an exception type."""

MAX_KINDS = 256
"""Kinds that are counted separately. All further ones of a logger share one count."""

_MINUTE = 60.0
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_IS_WRITTEN = "secondpass_is_written"
"""Attribute of a record that a filter has seen."""

_UNLIMITED = "uvicorn.access"
"""Logger of the access log, which has one line per request if the operator asks for it."""


def escape_controls(text: str) -> str:
    r"""Return `text` with each control character and line separator as an escape such as \x1b."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LogFormatter(logging.Formatter):
    """Format of the service's own log, with indented tracebacks without control characters."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatException(self, ei: Any) -> str:  # noqa: N802 - name of the base class
        """Return a traceback whose lines cannot be taken for lines of the log."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"    {escape_controls(line)}" for line in lines)


@dataclass(slots=True)
class _Count:
    started: float
    written: int = 0
    suppressed: int = 0


class LogFilter(logging.Filter):
    """Suppresses a record beyond the first `LINES_PER_MINUTE` of its kind, and escapes control characters.

    The next line of the kind states how many were suppressed. A record is counted once, whatever handlers it reaches.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._counts: dict[tuple[object, ...], _Count] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written."""
        if not hasattr(record, _IS_WRITTEN):
            setattr(record, _IS_WRITTEN, self._admit(record))
        return bool(getattr(record, _IS_WRITTEN))

    def _admit(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written, with its message escaped."""
        suppressed = self._count(record)
        if suppressed is None:
            return False
        message = record.getMessage()
        if suppressed:
            message = f"{message} ({suppressed} similar lines were suppressed)"
        record.msg, record.args = escape_controls(message), ()
        return True

    def _count(self, record: logging.LogRecord) -> int | None:
        """Return how many records of its kind were suppressed before this one; None to suppress it too."""
        if record.name == _UNLIMITED:
            return 0
        now = self._clock()
        error = record.exc_info[0] if record.exc_info else None
        kind: tuple[object, ...] = (record.name, record.levelno, str(record.msg), error)
        if kind not in self._counts and len(self._counts) >= MAX_KINDS:
            kind = (record.name,)
        count = self._counts.setdefault(kind, _Count(now))
        if now - count.started >= _MINUTE:
            count.started, count.written = now, 0
        if count.written >= LINES_PER_MINUTE:
            count.suppressed += 1
            return None
        count.written += 1
        suppressed, count.suppressed = count.suppressed, 0
        return suppressed


def new_handler() -> logging.Handler:
    """Return a handler that writes to stderr, with the format and the filter of this module."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter())
    handler.addFilter(LogFilter())
    return handler


def limit_log(name: str) -> None:
    """Limit the log of the logger `name` where another program configures the log.

    Its handlers and those of its parents get the filter. A logger without handlers gets one that writes to stderr.
    """
    if not logging.getLogger(name).hasHandlers():
        logging.getLogger(name).addHandler(new_handler())
        return
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        for handler in logger.handlers:
            handler.addFilter(LogFilter())
        logger = logger.parent if logger.propagate else None
