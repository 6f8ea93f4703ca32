"""Budget limits of a run, and token prices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field

from secondpass.strategies.api.values import BudgetKind

KINDS: tuple[BudgetKind, ...] = get_args(BudgetKind)

Amount: TypeAlias = int | Fraction
"""Integers for tokens and counts, fractions for money; adding fractions is a hundred times slower."""

Amounts = Mapping[BudgetKind, Amount]


class Limits(BaseModel):
    """Budget limits of one run; null means unlimited."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int | None = Field(default=None, ge=1, description="completion tokens of all calls")
    max_prompt_tokens: int | None = Field(
        default=None, ge=1, description="prompt tokens of all calls"
    )
    max_calls: int | None = Field(default=None, ge=1, description="engine requests")
    max_samples: int | None = Field(default=None, ge=1, description="completions")
    max_cost: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="cost in the currency of the prices"
    )
    deadline_ms: int | None = Field(
        default=None, ge=1, description="wall-clock time in milliseconds"
    )


class RequestBudget(Limits):
    """Budget of a request: its limits, and what a limit that ends the run may leave."""

    partial: bool | None = Field(
        default=None,
        description="return a truncated draft if a limit ends the run before it has an answer; "
        "true by default, except for a task of a kind other than open",
    )


@dataclass(frozen=True, slots=True)
class Price:
    """Price per million tokens, at least 0, in the operator's currency."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, prompt: int, completion: int) -> Amount:
        """Return the exact cost of a number of tokens, without rounding."""
        if not (self.prompt or self.completion):
            return 0
        return (prompt * exact(self.prompt) + completion * exact(self.completion)) / 1_000_000

    def affords(self, money: Amount) -> float:
        """Return the maximum number of completion tokens that `money` buys."""
        if money < 0:
            return 0
        return money * 1_000_000 // exact(self.completion) if self.completion else math.inf


FREE = Price()


@lru_cache(maxsize=1024)
def exact(value: float) -> Fraction:
    """Return the shortest decimal of a float as a fraction: 0.1 is 1/10."""
    return Fraction(repr(value))
