"""Request for a lease, and the budget that a number of tokens needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secondpass.service.common.limits import FREE, Amount, Amounts, Price
from secondpass.strategies.api.values import BudgetKind


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """Budget that one attempt of a call asks for.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        cap: Maximum completion tokens of each of the `n` completions; 0 for a call that generates nothing.
        expected: Returns the expected tokens of one completion. Evaluated again while the request waits.
        n: Number of completions; 0 for a call that generates nothing.
        price: Price of the tokens.
        takes_remainder: Accept fewer tokens than expected, as the first call of a run does.
        is_continuation: The attempt continues completions of an earlier one. It accepts fewer tokens than expected and
            is not charged for further samples.
    """

    prompt_tokens: int
    cap: int
    expected: Callable[[], int]
    n: int = 1
    price: Price = FREE
    takes_remainder: bool = False
    is_continuation: bool = False

    @property
    def samples(self) -> int:
        """Samples to charge."""
        return 0 if self.is_continuation else self.n

    @property
    def expected_tokens(self) -> int:
        """Expected completion tokens over all completions."""
        return max(1, min(self.expected(), self.cap)) * self.n

    @property
    def minimum(self) -> Amounts:
        """Smallest amounts with which the attempt can start."""
        return amounts_of(self.price, self.prompt_tokens, self.n)


def amounts_of(price: Price, prompt: int, tokens: int) -> dict[BudgetKind, Amount]:
    """Return the amounts of the limits on tokens and cost that a prompt and completion tokens need."""
    return {"prompt_tokens": prompt, "tokens": tokens, "cost": price.of(prompt, tokens)}
