"""Run and request errors, with the HTTP status and error code of each.

All are subclasses of SecondpassError, below those of `strategies.api.errors`:

* InvalidRequest (422): the request is invalid; `field` names the field.
    * Malformed (400): the body is not UTF-8 JSON.
    * NotFound (404): unknown strategy, model or path.
    * TooLarge (413): the body exceeds the size limit.
    * BodyTooSlow (408): the body arrives too late or too slowly.
* Unauthorized (401): missing or unknown API key.
* NotAdmitted (503): overloaded or draining.
* NoAnswer: the run ended without an answer; the error contains its usage.
    * NoAnswerWithinBudget (422): a budget limit was reached.
    * DeadlineExceeded (504): the deadline passed.
    * ReasoningOverLimit (422): the reasoning used all tokens of a call, or repeated itself.
    * EngineFailed (502): engine failure; `role` names its role.
    * EngineOverloaded (503): the engine answered 429 or 503; `role` names its role.
    * Drained (503): the server is shutting down.
    * ClientDisconnected (499): the client disconnected; logged, never sent.

Errors that only routes raise are in `http.problems` and `http.access`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from secondpass.strategies.api.errors import SecondpassError
from secondpass.strategies.api.values import BudgetKind, Role

ECHO_LIMIT = 200
"""Maximum characters of input that an error message repeats."""


def excerpt(text: str) -> str:
    """Return `text` truncated to ECHO_LIMIT characters."""
    return text if len(text) <= ECHO_LIMIT else text[: ECHO_LIMIT - 1] + "…"


def describe(error: SecondpassError) -> str:
    """Return the message of an error, with the name of its engine, truncated to ECHO_LIMIT characters."""
    name, message = getattr(error, "engine", ""), str(error)
    is_named = not name or f"engine {name!r}" in message
    return excerpt(message if is_named else f"engine {name!r}: {message}")


class BadSettings(Exception):
    """Invalid settings; the message has one line per problem."""


class HttpError(SecondpassError):
    """An error with its HTTP status and its machine-readable `code`."""

    status: ClassVar[int]
    code: ClassVar[str]
    should_retry: bool | None = None
    """Value of the `x-should-retry` header; None omits it."""
    retry_after: float | None = None
    """Seconds of the `Retry-After` header; None omits it."""

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field

    @property
    def extra(self) -> Mapping[str, Any]:
        """Further members of the problem document."""
        return {}


class InvalidRequest(HttpError):
    """The request is invalid; `field` names the field."""

    status = 422
    code = "invalid_request"


class Malformed(InvalidRequest):
    """The body is not UTF-8 JSON."""

    status = 400
    code = "malformed"


class NotFound(InvalidRequest):
    """A strategy, model or path that does not exist."""

    status = 404
    code = "not_found"


class TooLarge(InvalidRequest):
    """The body exceeds the configured size limit."""

    status = 413
    code = "too_large"


class BodyTooSlow(InvalidRequest):
    """The body did not arrive in time, or arrived too slowly."""

    status = 408
    code = "body_too_slow"


class Unauthorized(HttpError):
    """The API key is missing or unknown, see `reason`."""

    status = 401
    code = "unauthorized"

    def __init__(self, detail: str, *, reason: Literal["missing", "unknown"]) -> None:
        super().__init__(detail)
        self.reason: Literal["missing", "unknown"] = reason


class NotAdmitted(HttpError):
    """The server accepts no new requests at the moment."""

    status = 503
    code = "unavailable"
    retry_after = 1.0


class NoAnswer(HttpError):
    """The run ended without an answer. `usage_record` contains its usage."""

    def __init__(self, detail: str, *, usage_record: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.usage_record = usage_record or {}

    @property
    def extra(self) -> Mapping[str, Any]:
        return self.usage_record


class NoAnswerWithinBudget(NoAnswer):
    """A budget limit was reached before the run had a candidate."""

    status = 422
    code = "budget_exhausted"
    should_retry = False

    def __init__(
        self,
        kind: BudgetKind,
        limit: float | None = None,
        *,
        usage_record: Mapping[str, Any] | None = None,
    ) -> None:
        value = "" if limit is None else f" = {limit}"
        super().__init__(
            f"no answer within budget.max_{kind}{value}; raise it", usage_record=usage_record
        )
        self.kind: BudgetKind = kind
        self.field = f"budget.max_{kind}"


class ReasoningOverLimit(NoAnswer):
    """The reasoning used all tokens of every draft or repeated itself, so that none has an answer.

    `field` is the token limit of a completion, under the name that the route has for it; None if no limit was reached.
    """

    status = 422
    code = "reasoning_truncated"
    should_retry = False

    def __init__(
        self, tokens: int | None, *, usage_record: Mapping[str, Any] | None = None
    ) -> None:
        detail = "the reasoning repeated itself; change the question or the sampling"
        if tokens is not None:
            detail = f"the reasoning used all {tokens} tokens of a completion; raise this limit"
        super().__init__(detail, usage_record=usage_record)
        self.field = None if tokens is None else "sampling.max_tokens"


class DeadlineExceeded(NoAnswer):
    """The deadline passed before the run had a candidate."""

    status = 504
    code = "deadline"
    should_retry = False

    def __init__(self, detail: str, *, usage_record: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail, usage_record=usage_record)
        self.field = "budget.deadline_ms"


class EngineFault(NoAnswer):
    """The engine of `role` is the reason why there is no answer."""

    def __init__(
        self,
        detail: str,
        *,
        role: Role | None = None,
        usage_record: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, usage_record=usage_record)
        self.role = role

    @property
    def extra(self) -> Mapping[str, Any]:
        return self.usage_record if self.role is None else {**self.usage_record, "role": self.role}


class EngineFailed(EngineFault):
    """The engine failed, refuses its API key or lacks the model."""

    status = 502
    code = "engine_failed"


class EngineOverloaded(EngineFault):
    """The engine answered 429 or 503 to every call."""

    status = 503
    code = "engine_overloaded"


class Drained(NoAnswer):
    """The server is shutting down and the run had no candidate."""

    status = 503
    code = "draining"
    retry_after = 1.0


class ClientDisconnected(NoAnswer):
    """The client disconnected before the run ended."""

    status = 499
    code = "cancelled"


def release(error: BaseException) -> None:
    """Free what a handled error keeps alive: its causes, and the frames that it passed.

    A frame that refers to its own error is a reference cycle. It would keep the body of a request until the next full
    garbage collection, which is rare.
    """
    rest: list[BaseException | None] = [error]
    while rest:
        each = rest.pop()
        if each is None:
            continue
        rest += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            rest += each.exceptions
        each.__cause__ = each.__context__ = each.__traceback__ = None


@contextmanager
def boundary(
    error: type[SecondpassError], message: str, *foreign: type[Exception], **details: Any
) -> Iterator[None]:
    """Convert `foreign` exceptions to `error`, with the text `message: cause`."""
    try:
        yield
    except foreign as cause:
        raise error(
            f"{message}: {excerpt(str(cause) or type(cause).__name__)}", **details
        ) from cause
