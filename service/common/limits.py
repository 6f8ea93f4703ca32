"""Budget limits of a run, and prices of tokens."""

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
"""Tokens and counts are whole numbers, and only money needs fractions: those cost a hundred times as much to add."""

Amounts = Mapping[BudgetKind, Amount]


class Limits(BaseModel):
    """The budget of one run.

    `max_tokens` are completion tokens of all calls, `max_calls` engine requests, `max_samples` completions;
    `max_cost` is in the currency of the prices. None sets no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int | None = Field(default=None, ge=1)
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    max_calls: int | None = Field(default=None, ge=1)
    max_samples: int | None = Field(default=None, ge=1)
    max_cost: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    deadline_ms: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in any one currency."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, prompt: int, completion: int) -> Amount:
        """The cost of so many tokens, exactly: money is never rounded on the way."""
        if not (self.prompt or self.completion):
            return 0
        return (prompt * exact(self.prompt) + completion * exact(self.completion)) / 1_000_000

    def affords(self, money: Amount) -> float:
        """The most completion tokens that `money` buys."""
        if money < 0:
            return 0
        return money * 1_000_000 // exact(self.completion) if self.completion else math.inf


FREE = Price()


@lru_cache(maxsize=1024)
def exact(value: float) -> Fraction:
    """The number as it was written: 0.1 is a tenth."""
    return Fraction(repr(value))
