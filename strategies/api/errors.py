"""Errors of engines, budgets and verdicts.

The verbs of `Run` may raise any of them, and a strategy need not catch any. All derive from `SecondpassError`.

* `EngineError`: a call failed; see `role` and `engine`.
    * `EngineUnavailable`: no connection, 5xx or 429; retryable.
    * `StreamInterrupted`: the stream ended without a finish reason; retryable.
    * `CallRejected`: the engine rejected the call; a retry would be rejected, too. See `is_about_request`.
    * `RoleFailed`: a role that the request requires failed; the run has no answer.
* `CapabilityMissing`: the engine lacks a capability that the call needs.
* `RoleMissing`: no engine plays the role of the call.
* `BudgetExhausted`: the call exceeds the remaining budget; see `kind`.
* `UnusableCompletion`: a completion is empty, or was truncated before its answer.
    * `ReasoningTruncated`: the token limit or a repetition ended the call before any text.
    * `DegenerateCandidate`: a text to judge is empty, only punctuation, or repetitive.
* `VerdictUnreadable`: a judge's reply cannot be parsed. It is never counted as a score of 0.
"""

from __future__ import annotations

from collections.abc import Iterable

from secondpass.strategies.api.values import BudgetKind, Capability, Role


class SecondpassError(Exception):
    """Base class of the errors of secondpass.

    `is_counted` is True once the error was counted in the outcome's `degraded`.
    """

    is_counted = False


DEFAULT_RETRY_AFTER = 1.0
"""Seconds to wait for an overloaded engine that reports no Retry-After."""

_ABOUT_REQUEST = frozenset((400, 409, 413, 414, 415, 422, 431))


class EngineError(SecondpassError):
    """A call failed, in the engine or on the way to it.

    The message contains neither keys nor inner addresses, so that a client may read it. `logged` is the message for the
    operator's log, which may name addresses.
    """

    def __init__(self, message: str, *, engine: str = "", role: Role | None = None) -> None:
        super().__init__(message)
        self.logged = message
        self.engine = engine
        self.role = role


class EngineUnavailable(EngineError):
    """No connection, a 5xx or a 429.

    Attributes:
        retry_after: Seconds until a retry may succeed, as the engine reported them; None if it reported none.
        may_retry: False if the router dropped the call for a reason that persists.
        is_overloaded: True for a 429 or 503: the engine works, but accepts no calls now.
    """

    def __init__(
        self,
        message: str,
        *,
        engine: str = "",
        role: Role | None = None,
        retry_after: float | None = None,
        may_retry: bool = True,
        is_overloaded: bool = False,
    ) -> None:
        super().__init__(message, engine=engine, role=role)
        self.retry_after = retry_after
        self.may_retry = may_retry
        self.is_overloaded = is_overloaded


class StreamInterrupted(EngineError):
    """A stream ended before every completion had a finish reason."""


class CallRejected(EngineError):
    """The engine rejected the call with a 4xx; `status` is the HTTP status."""

    def __init__(
        self, message: str, *, engine: str = "", role: Role | None = None, status: int = 400
    ) -> None:
        super().__init__(message, engine=engine, role=role)
        self.status = status

    @property
    def is_about_request(self) -> bool:
        """False if the operator must act: the engine refuses the API key or lacks the model or route."""
        return self.status in _ABOUT_REQUEST


class RoleFailed(EngineError):
    """A role that the request requires failed: the run ends without an answer, even after an election."""


class CapabilityMissing(SecondpassError):
    """An engine lacks a capability that a call needs."""

    def __init__(self, engine: str, missing: Iterable[Capability]) -> None:
        self.engine = engine
        self.missing = tuple(sorted(missing))
        super().__init__(f"engine {engine!r} lacks the capability {', '.join(self.missing)}")


class RoleMissing(SecondpassError):
    """No engine plays the role of a call."""

    def __init__(self, role: Role) -> None:
        self.role = role
        super().__init__(f"no engine plays the role {role!r}: configure one under roles.{role}")


class BudgetExhausted(SecondpassError):
    """A call exceeds what remains of one limit of the budget."""

    def __init__(self, kind: BudgetKind) -> None:
        self.kind: BudgetKind = kind
        super().__init__(f"the budget's {kind} are spent")


class UnusableCompletion(SecondpassError):
    """A completion is empty, or was truncated before its answer. `role` generated it."""

    def __init__(self, message: str, *, role: Role = "actor") -> None:
        super().__init__(message)
        self.role: Role = role


class ReasoningTruncated(UnusableCompletion):
    """The reasoning used all `tokens` that the call allows, so that the completion has no text.

    None: the reasoning was ended because it repeated itself.
    """

    def __init__(self, tokens: int | None, *, role: Role = "actor") -> None:
        end = "repeated itself" if tokens is None else f"used all {tokens} tokens of the call"
        super().__init__(f"the reasoning of the {role} {end}", role=role)
        self.tokens = tokens


class DegenerateCandidate(UnusableCompletion):
    """A text to judge is empty, only punctuation, or repetitive."""


class VerdictUnreadable(SecondpassError):
    """A reply of `role` could not be parsed."""

    def __init__(self, message: str, *, role: Role = "judge") -> None:
        super().__init__(message)
        self.role: Role = role


ITEM_ERRORS = (EngineError, UnusableCompletion, VerdictUnreadable)
"""Errors that drop one item but not the run."""
