"""Errors of engines, budgets and verdicts.

Any of them can be raised through `Run`; a strategy need not catch any of it::

    SecondpassError
    ├── EngineError                 a call failed; `role` and `engine` say where
    │   ├── EngineUnavailable       no connection, 5xx, 429: another attempt may work
    │   ├── StreamInterrupted               the stream ended without a finish reason: another attempt may work
    │   ├── CallRejected            the engine refused the call itself: the same call fails again
    │   └── RoleFailed              a role that the request insists on: no answer so far makes up for it
    ├── CapabilityMissing           the engine cannot do what the call needs
    ├── RoleMissing                 no engine plays the role that the call is for
    ├── BudgetExhausted             the call does not fit what is left of the budget; `kind` says which limit
    ├── UnusableCompletion          a completion that cannot serve: empty, or cut before it answered
    │   └── DegenerateCandidate     nothing to judge: empty, only punctuation, or one thing over and over
    └── VerdictUnreadable           a judge's reply that cannot be parsed (never read as a zero)
"""

from __future__ import annotations

from collections.abc import Iterable

from secondpass.strategies.api.values import BudgetKind, Capability, Role


class SecondpassError(Exception):
    """The root of every error that secondpass raises on purpose. `is_counted` once it is in the outcome's `degraded`."""

    is_counted = False


class EngineError(SecondpassError):
    """A call failed in or on its way to an engine."""

    def __init__(self, message: str, *, engine: str = "", role: Role | None = None) -> None:
        super().__init__(message)
        self.engine = engine
        self.role = role


class EngineUnavailable(EngineError):
    """No connection, a 5xx or a 429. `retry_after` is in seconds.

    `may_retry` is false where the router dropped the call for a reason that another attempt would meet again.
    """

    def __init__(
        self,
        message: str,
        *,
        engine: str = "",
        role: Role | None = None,
        retry_after: float | None = None,
        may_retry: bool = True,
    ) -> None:
        super().__init__(message, engine=engine, role=role)
        self.retry_after = retry_after
        self.may_retry = may_retry


class StreamInterrupted(EngineError):
    """A stream ended before every completion had its finish reason."""


class CallRejected(EngineError):
    """The engine understood the call and refused it (a 4xx); `status` is its HTTP status."""

    def __init__(
        self, message: str, *, engine: str = "", role: Role | None = None, status: int = 400
    ) -> None:
        super().__init__(message, engine=engine, role=role)
        self.status = status


class RoleFailed(EngineError):
    """A role failed that the request insists on: it ends the run without an answer, whatever was elected so far."""


class CapabilityMissing(SecondpassError):
    """An engine cannot do what a call needs."""

    def __init__(self, engine: str, missing: Iterable[Capability]) -> None:
        self.engine = engine
        self.missing = tuple(sorted(missing))
        super().__init__(f"engine {engine!r} lacks the capability {', '.join(self.missing)}")


class RoleMissing(SecondpassError):
    """No engine plays a role."""

    def __init__(self, role: Role) -> None:
        self.role = role
        super().__init__(f"no engine plays the role {role!r}: name one under roles.{role}")


class BudgetExhausted(SecondpassError):
    """A call does not fit into what is left of one limit of the budget."""

    def __init__(self, kind: BudgetKind) -> None:
        self.kind: BudgetKind = kind
        super().__init__(f"the budget's {kind} are spent")


class UnusableCompletion(SecondpassError):
    """A completion that cannot serve: empty, or truncated before it held an answer. `role` wrote it."""

    def __init__(self, message: str, *, role: Role = "actor") -> None:
        super().__init__(message)
        self.role: Role = role


class DegenerateCandidate(UnusableCompletion):
    """A candidate that gives a judge nothing to judge."""


class VerdictUnreadable(SecondpassError):
    """A reply of `role` that could not be parsed."""

    def __init__(self, message: str, *, role: Role = "judge") -> None:
        super().__init__(message)
        self.role: Role = role


ITEM_ERRORS = (EngineError, UnusableCompletion, VerdictUnreadable)
"""Errors that drop one item but not the run."""
