"""How a run can fail, and the one place that knows what each failure is in HTTP.

The tree below that of `strategies.api.errors`::

    SecondpassError
    ├── InvalidRequest        the request cannot be served as it is; `field` names the culprit   422
    │   ├── Malformed         not JSON, or not UTF-8                                             400
    │   ├── NotFound          no such strategy or model                                          404
    │   └── TooLarge          the body is over the limit                                         413
    ├── Unauthorized          no key, or an unknown one                                          401
    ├── NotAdmitted           overloaded or draining                                             503
    └── NoAnswer              the run ended with nothing to show; carries the bill
        ├── NoAnswerWithinBudget                                                                  422
        ├── DeadlinePassed                                                                       504
        ├── AllCallsFailed    the engine failed, `role` says whose                               502
        ├── Drained           the service is going down                                          503
        └── Abandoned         the client left: logged, never sent                                499

A few kinds that only the routes know (Unsupported, Incapable, WrongMethod, Internal) stand in `http.problems`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from secondpass.strategies.api.errors import SecondpassError
from secondpass.strategies.api.values import BudgetKind, Role

ECHO_LIMIT = 200
"""At most so many characters of input are repeated in an error."""


def excerpt(text: str) -> str:
    """`text`, shortened to what an error may repeat."""
    return text if len(text) <= ECHO_LIMIT else text[: ECHO_LIMIT - 1] + "…"


class BadSettings(Exception):
    """Settings that cannot be served; one line for each problem."""


class HttpError(SecondpassError):
    """An error with its HTTP status and its machine-readable `code`."""

    status: ClassVar[int]
    code: ClassVar[str]
    should_retry: ClassVar[bool | None] = None
    """What `x-should-retry` tells an OpenAI client; None leaves it to the client."""
    retry_after: float | None = None

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field

    @property
    def extra(self) -> Mapping[str, Any]:
        """Further members of the problem document."""
        return {}


class InvalidRequest(HttpError):
    """The request names something that cannot be: `field` is where."""

    status = 422
    code = "invalid_request"


class Malformed(InvalidRequest):
    """The body is not JSON in UTF-8."""

    status = 400
    code = "malformed"


class NotFound(InvalidRequest):
    """A strategy, model or path that does not exist."""

    status = 404
    code = "not_found"


class TooLarge(InvalidRequest):
    """The body is over the operator's limit."""

    status = 413
    code = "too_large"


class Unauthorized(HttpError):
    """No API key, or one that nobody was given."""

    status = 401
    code = "unauthorized"


class NotAdmitted(HttpError):
    """The service takes no new work at the moment."""

    status = 503
    code = "unavailable"
    retry_after = 1.0


class NoAnswer(HttpError):
    """The run ended with nothing to show. `bill` is what it used all the same."""

    def __init__(self, detail: str, *, bill: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.bill = bill or {}

    @property
    def extra(self) -> Mapping[str, Any]:
        return self.bill


class NoAnswerWithinBudget(NoAnswer):
    """One limit of the budget was spent before anything could be proposed."""

    status = 422
    code = "budget_exhausted"
    should_retry = False

    def __init__(self, kind: BudgetKind, *, bill: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"no answer within budget.max_{kind}", bill=bill)
        self.kind: BudgetKind = kind
        self.field = f"budget.max_{kind}"


class DeadlinePassed(NoAnswer):
    """The deadline came before anything could be proposed."""

    status = 504
    code = "deadline"
    should_retry = False


class AllCallsFailed(NoAnswer):
    """The engine failed; `role` says which one's."""

    status = 502
    code = "engine_failed"

    def __init__(
        self, detail: str, *, role: Role | None = None, bill: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail, bill=bill)
        self.role = role

    @property
    def extra(self) -> Mapping[str, Any]:
        return {**self.bill, "role": self.role}


class Drained(NoAnswer):
    """The service is shutting down and the run had nothing to show."""

    status = 503
    code = "draining"
    retry_after = 1.0


class Abandoned(NoAnswer):
    """The client left; nobody is there to read this."""

    status = 499
    code = "cancelled"


@contextmanager
def boundary(
    error: type[SecondpassError], what: str, *foreign: type[Exception], **details: Any
) -> Iterator[None]:
    """Turn `foreign` exceptions into `error`, whose text is `what` and the cause."""
    try:
        yield
    except foreign as cause:
        raise error(f"{what}: {excerpt(str(cause) or type(cause).__name__)}", **details) from cause
