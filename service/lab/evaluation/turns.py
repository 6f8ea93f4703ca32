"""Metrics of revision: accuracy by turn, flips between turns, and the quality of a critic's verdicts.

A chain is the correctness of one question's answers in order and is never empty. A chain that ends early keeps its last
answer for later turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from secondpass.service.lab.evaluation.run_record import GradedCandidate, Turn

Chain = Sequence[bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Change between two turns (SCoRe, arXiv 2409.12917), as shares of all questions from 0 to 1.

    `fixed` went from incorrect to correct (i->c), `broken` from correct to incorrect (c->i):
    `after - before == fixed - broken`.
    """

    before: float
    after: float
    fixed: float
    broken: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """Decomposition of the second turn's accuracy (arXiv 2412.19513): acc2 = acc1 * cl + (1 - acc1) * cs.

    `cl` (confidence level) is the probability that a correct answer stays correct. `cs` (critique score) is the
    probability that an incorrect one becomes correct. `rss` scales acc2 from acc1^2 (0) to 1 - (1 - acc1)^2 (1) and may
    lie outside of 0 to 1. Each is None if its denominator is 0.
    """

    acc1: float
    acc2: float
    cl: float | None
    cs: float | None
    rss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictCounts:
    """Counts of a critic's verdicts by the correctness of the answer."""

    right_accepted: int = 0
    wrong_accepted: int = 0
    right_rejected: int = 0
    wrong_rejected: int = 0

    @property
    def accuracy(self) -> float | None:
        """Share of correct verdicts (Acc@Dis, arXiv 2510.24320); None without verdicts."""
        hits = self.right_accepted + self.wrong_rejected
        return ratio(hits, hits + self.wrong_accepted + self.right_rejected)

    @property
    def precision(self) -> float | None:
        """Share of rejected answers that are incorrect; None without rejected answers."""
        return ratio(self.wrong_rejected, self.wrong_rejected + self.right_rejected)

    @property
    def recall(self) -> float | None:
        """Share of incorrect answers that were rejected; None without incorrect answers."""
        return ratio(self.wrong_rejected, self.wrong_rejected + self.wrong_accepted)

    @property
    def accept_precision(self) -> float | None:
        """Share of accepted answers that are correct; None without accepted answers."""
        return ratio(self.right_accepted, self.right_accepted + self.wrong_accepted)

    @property
    def accept_recall(self) -> float | None:
        """Share of correct answers that were accepted; None without correct answers."""
        return ratio(self.right_accepted, self.right_accepted + self.right_rejected)


def accuracy_by_turn(chains: Sequence[Chain]) -> list[float]:
    """Return the share of correct answers after each turn of the longest chain.

    Raises ValueError if `chains` is empty.
    """
    _check(chains)
    return [
        sum(_at(chain, turn) for chain in chains) / len(chains)
        for turn in range(max(map(len, chains)))
    ]


def change(chains: Sequence[Chain], first: int = 0, second: int = -1) -> Change:
    """Return the change between two turns (0-based; -1 is the last).

    Raises ValueError if `chains` is empty.
    """
    _check(chains)
    last = max(map(len, chains)) - 1
    pairs = [(_at(c, first), _at(c, last if second == -1 else second)) for c in chains]
    n = len(pairs)
    return Change(
        before=sum(a for a, _ in pairs) / n,
        after=sum(b for _, b in pairs) / n,
        fixed=sum(b and not a for a, b in pairs) / n,
        broken=sum(a and not b for a, b in pairs) / n,
    )


def decompose(questions: Sequence[Sequence[tuple[bool, bool]]]) -> Decomposition:
    """Return CL, CS and RSS from one or more samples per question: (correct at turn 1, correct at turn 2).

    A question's probabilities are the shares among its samples, and all questions have equal weight. Raises ValueError
    without questions, or for a question without samples.
    """
    if not questions or not all(questions):
        raise ValueError("questions must not be empty, and each must have at least one sample")
    n = len(questions)
    acc1 = sum(sum(a for a, _ in q) / len(q) for q in questions) / n
    kept = sum(sum(a and b for a, b in q) / len(q) for q in questions) / n
    fixed = sum(sum(b and not a for a, b in q) / len(q) for q in questions) / n
    acc2 = kept + fixed
    is_open = any(not a for q in questions for a, _ in q) and acc1 > 0  # exact, unlike acc1 < 1
    return Decomposition(
        acc1=acc1,
        acc2=acc2,
        cl=kept / acc1 if acc1 > 0 else None,
        cs=fixed / (1 - acc1) if is_open or acc1 == 0 else None,
        rss=(acc2 - acc1**2) / (2 * acc1 * (1 - acc1)) if is_open else None,
    )


def count_verdicts(turns: Iterable[Turn | GradedCandidate]) -> VerdictCounts:
    """Count the verdicts on turns or candidates; those without a verdict are skipped."""
    counts = {(right, ok): 0 for right in (True, False) for ok in (True, False)}
    for turn in turns:
        if turn.accepted is not None:
            counts[turn.correct, turn.accepted] += 1
    return VerdictCounts(
        right_accepted=counts[True, True],
        wrong_accepted=counts[False, True],
        right_rejected=counts[True, False],
        wrong_rejected=counts[False, False],
    )


def feedback_resistance(chains: Iterable[Sequence[Turn]]) -> float | None:
    """Return the share of lasting errors for which all feedback was correct; None without lasting errors.

    This is our operational form of a category that Feedback Friction (arXiv 2506.11930) annotated by hand and with a
    model. An error lasts if the chain has a second turn and its last turn is incorrect. It counts as resistance if every
    turn before the last was incorrect and was rejected. Otherwise the feedback contributed: it rejected a correct answer or
    accepted an incorrect one. A lasting error is skipped if a turn before the last has no verdict.
    """
    lasting = [
        chain
        for chain in chains
        if len(chain) > 1
        and not chain[-1].correct
        and all(turn.accepted is not None for turn in chain[:-1])
    ]
    resisted = sum(
        all(not turn.correct and turn.accepted is False for turn in chain[:-1]) for chain in lasting
    )
    return ratio(resisted, len(lasting))


def ratio(part: float, whole: float) -> float | None:
    """Return `part / whole`, or None if `whole` is 0."""
    return part / whole if whole else None


def _at(chain: Chain, turn: int) -> bool:
    return chain[min(turn, len(chain) - 1)]


def _check(chains: Sequence[Chain]) -> None:
    if not chains or not all(chains):
        raise ValueError("chains must not be empty, and each must have at least one turn")
