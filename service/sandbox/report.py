"""Report of a test run, as the supervisor in the sandbox writes it.

The supervisor runs beside code of clients. So nothing is taken from a report but four statuses and a bounded reason.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = [
    "MAX_REASON_CHARACTERS",
    "REPORT_BYTES",
    "Status",
    "TesterReport",
    "parsed_report",
    "printable",
]

Status = Literal["passed", "failed", "timeout", "error"]

REPORT_BYTES = 2**14
"""Maximum bytes of a report; the rest is not read."""

MAX_REASON_CHARACTERS = 1200
"""Maximum characters of a reason."""

_STARTED, _LOADED, _CALLED = b'{"started": true}', b'{"loaded": true}', b'{"called": true}'
_CONTROLS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


@dataclass(frozen=True, slots=True)
class TesterReport:
    """Report of a test run.

    Attributes:
        is_started: True if the sandbox was set up.
        is_unused: True if the code has run, and the tests have not called it.
        status: The result.
        why: Its reason: at most MAX_REASON_CHARACTERS, without control characters but line ends and tabs.
    """

    is_started: bool
    is_unused: bool
    status: Status
    why: str


def parsed_report(written: bytes | bytearray) -> TesterReport:
    """Return the report in the output of the supervisor, of which any bytes are accepted."""
    lines = bytes(written[:REPORT_BYTES]).split(b"\n")
    status, why = _result(lines[-2] if len(lines) > 1 else b"")
    is_unused = _LOADED in lines and _CALLED not in lines
    return TesterReport(lines[0] == _STARTED, is_unused, status, why)


def _result(line: bytes) -> tuple[Status, str]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and document.keys() == {"status", "why"}:
        status, why = document["status"], document["why"]
        for known in get_args(Status):
            if status == known and isinstance(why, str):
                return known, printable(why)[:MAX_REASON_CHARACTERS]
    return "error", "the process that runs the tests ended without a result"


def printable(text: str) -> str:
    """Return a text without surrogates, which become "?", and without control and direction characters."""
    return _CONTROLS.sub(lambda found: "?" if "\ud800" <= found[0] <= "\udfff" else "", text)
