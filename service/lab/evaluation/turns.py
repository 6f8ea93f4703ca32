"""What revising does to answers: accuracy by turn, who flips which way, and what a critic's verdicts are worth.

Every function takes plain values. A chain is the truth of one question's answers in order, never empty; a chain that
ended early keeps its last answer from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from secondpass.service.lab.evaluation.run_record import GradedCandidate, Turn

Chain = Sequence[bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From one turn to another (SCoRe, arXiv 2409.12917): shares of all questions, 0 to 1.

    `fixed` were wrong and became right (i->c), `broken` were right and became wrong (c->i), so that
    `after - before == fixed - broken`.
    """

    before: float
    after: float
    fixed: float
    broken: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """How the second turn's accuracy comes about (arXiv 2412.19513): acc2 = acc1 * cl + (1 - acc1) * cs.

    `cl` (confidence level) is the chance that a right answer stays right, `cs` (critique score) that a wrong one is
    put right. `rss` places acc2 between acc1^2 (0) and 1 - (1 - acc1)^2 (1); it may lie outside. Each is None
    where its denominator is 0.
    """

    acc1: float
    acc2: float
    cl: float | None
    cs: float | None
    rss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictCounts:
    """A critic's verdicts against the truth, as counts."""

    right_accepted: int = 0
    wrong_accepted: int = 0
    right_rejected: int = 0
    wrong_rejected: int = 0

    @property
    def accuracy(self) -> float | None:
        """The share of verdicts that are right (Acc@Dis, arXiv 2510.24320); None without verdicts."""
        hits = self.right_accepted + self.wrong_rejected
        return ratio(hits, hits + self.wrong_accepted + self.right_rejected)

    @property
    def precision(self) -> float | None:
        """The share of rejected answers that are wrong; None where nothing was rejected."""
        return ratio(self.wrong_rejected, self.wrong_rejected + self.right_rejected)

    @property
    def recall(self) -> float | None:
        """The share of wrong answers that were rejected; None where none is wrong."""
        return ratio(self.wrong_rejected, self.wrong_rejected + self.wrong_accepted)

    @property
    def accept_precision(self) -> float | None:
        """The share of accepted answers that are right; None where nothing was accepted."""
        return ratio(self.right_accepted, self.right_accepted + self.wrong_accepted)

    @property
    def accept_recall(self) -> float | None:
        """The share of right answers that were accepted; None where none is right."""
        return ratio(self.right_accepted, self.right_accepted + self.right_rejected)


def accuracy_by_turn(chains: Sequence[Chain]) -> list[float]:
    """The share of right answers after each turn, as many as the longest chain has. Raises ValueError on no chains."""
    _check(chains)
    return [
        sum(_at(chain, turn) for chain in chains) / len(chains)
        for turn in range(max(map(len, chains)))
    ]


def change(chains: Sequence[Chain], first: int = 0, second: int = -1) -> Change:
    """What happened between two turns (0-based; -1 is the last one). Raises ValueError on no chains."""
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
    """CL, CS and RSS from samples: for each question one or more (right at turn 1, right at turn 2).

    A question's probabilities are the shares among its samples, and every question weighs the same. Raises
    ValueError without questions, or for a question without samples.
    """
    if not questions or not all(questions):
        raise ValueError("there must be questions, each with samples")
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
    """Count the verdicts on `turns`, or on candidates; those without one are not counted."""
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
    """The share of lasting errors that the feedback did not cause; None where no error lasted.

    Our operational form of a category that Feedback Friction (arXiv 2506.11930) had annotated by hand and by a
    model [derived]. An error lasts when there was a second turn and the last one is wrong. It is resistance when
    the feedback was right all along: every turn but the last was wrong and was rejected. Otherwise a right answer was
    rejected or a wrong one accepted on the way, and the feedback has its part. A lasting error with a turn before the
    last that has no verdict says nothing and is not counted.
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
    """`part / whole`, or None where there is no whole."""
    return part / whole if whole else None


def _at(chain: Chain, turn: int) -> bool:
    return chain[min(turn, len(chain) - 1)]


def _check(chains: Sequence[Chain]) -> None:
    if not chains or not all(chains):
        raise ValueError("there must be chains, each with at least one turn")
