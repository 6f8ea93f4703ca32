"""How a command ends without its result: one line for a person, and an exit code for a script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

ANSWERED = 0
FAILED = 1
REFUSED = 2
NOTHING = 3
INTERRUPTED = 130

_LONGEST = 300


class Failure(Exception):
    """Ends a command with `code`; the text says why, and what to change.

    `problem` is the server's own document, where the failure is one of its.
    """

    def __init__(
        self, message: str, code: int = FAILED, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.problem = problem or {}


def failure_of(problem: Mapping[str, Any]) -> Failure:
    """The failure that a problem document (RFC 9457, or OpenAI's error object) stands for."""
    error = problem.get("error")
    if isinstance(error, Mapping):
        problem = {**problem, "detail": error.get("message"), "code": error.get("code")}
    status, code = problem.get("status", 500), problem.get("code")
    detail = str(problem.get("detail") or f"the server answered {status}")
    field = problem.get("field")
    if field and str(field) not in detail:
        detail = f"{field}: {detail}"
    if status == 401:
        detail += "; --api-key-env names the variable that holds the server's key"
    return Failure(detail[:_LONGEST], _code_of(status, code), problem)


def _code_of(status: int, code: object) -> int:
    if status == 504 or code == "budget_exhausted":
        return NOTHING
    return REFUSED if 400 <= status < 500 else FAILED
