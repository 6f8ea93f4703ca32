"""Failure of a command: an error message and an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

SUCCEEDED = 0
FAILED = 1
"""The server or an engine failed, or cannot be reached."""

REFUSED = 2
"""An option or a file is invalid, or the server rejected the request."""

NO_ANSWER = 3
"""No answer within the budget or the deadline."""

INTERRUPTED = 130

_MAX_MESSAGE_LENGTH = 300


class Failure(Exception):
    """Error that ends a command.

    Attributes:
        code: Exit code of the command.
        problem: Error document of the server, empty if the error is not from the server.
    """

    def __init__(
        self, message: str, code: int = FAILED, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.problem = problem or {}


def failure_from_problem(problem: Mapping[str, Any]) -> Failure:
    """Convert a problem document (RFC 9457) or an OpenAI error object to a Failure.

    A 504, `budget_exhausted` or `reasoning_truncated` gives the code NO_ANSWER, other 4xx give REFUSED, and the rest FAILED.
    """
    error = problem.get("error")
    if isinstance(error, Mapping):
        problem = {**problem, "detail": error.get("message"), "code": error.get("code")}
    status, code = problem.get("status", 500), problem.get("code")
    detail = str(problem.get("detail") or f"the server returned status {status}")
    field = problem.get("field")
    if field and str(field) not in detail:
        detail = f"{field}: {detail}"
    if status == 401:
        detail += "; set --api-key-env to the variable that contains the API key"
    return Failure(detail[:_MAX_MESSAGE_LENGTH], _exit_code(status, code), problem)


def _exit_code(status: int, code: object) -> int:
    if status == 504 or code in ("budget_exhausted", "reasoning_truncated"):
        return NO_ANSWER
    return REFUSED if 400 <= status < 500 else FAILED
