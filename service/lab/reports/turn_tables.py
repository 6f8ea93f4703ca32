"""What revisions and verdicts came to in runs: who flips which way, and whether a critic knows right from wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from secondpass.service.lab.evaluation.intervals import mean
from secondpass.service.lab.evaluation.run_record import GradedCandidate, RunRecord, Turn
from secondpass.service.lab.evaluation.selection import balance_score, refinement_gap
from secondpass.service.lab.evaluation.turns import (
    accuracy_by_turn,
    change,
    count_verdicts,
    decompose,
    feedback_resistance,
)
from secondpass.service.lab.reports import markdown

_TURNS = """\
Revisions: shares of all questions in %. CL, CS and RSS as in arXiv 2412.19513; critic: its verdicts' accuracy, precision and recall of
rejecting; resistance: the share of lasting errors with right feedback all along (our operational form of a category of arXiv 2506.11930);
refinement: the answer's accuracy less that of the majority of the drafts, in points (arXiv 2509.00084); balance: of the answers that the
critic accepted (arXiv 2412.17256)."""
_HEADINGS = (
    "strategy", "turn 1", "last turn", "i→c", "c→i", "CL", "CS", "RSS", "critic", "precision", "recall", "resistance", "refinement", "balance"
)  # fmt: skip

Tried = tuple[str, Sequence[RunRecord]]
"""(strategy and setting, its attempts)"""


def turn_blocks(tried: Iterable[Tried]) -> list[str]:
    """The table with what it is, or nothing where no strategy revised and no critic judged.

    Below it stands the accuracy after each turn, of strategies with more than two.
    """
    tried = list(tried)
    rows = [row for name, attempts in tried if (row := _row(name, attempts)) is not None]
    by_turn = [_by_turn(name, attempts) for name, attempts in tried]
    long = [figures for figures in by_turn if len(figures) > 1 + 2]
    blocks = [_TURNS, markdown.table(_HEADINGS, rows)] if rows else []
    if long:
        turns = max(map(len, long)) - 1
        headings = ("accuracy after, %", *(f"turn {1 + at}" for at in range(turns)))
        padded = [[*figures, *[""] * (1 + turns - len(figures))] for figures in long]
        blocks.append(markdown.table(headings, padded))
    return blocks


def majority_of_drafts(attempt: RunRecord) -> float:
    """The expected accuracy of the vote of the attempt's drafts, where tied answers share; 0 without an answer."""
    drafts = [c for c in attempt.candidates if not c.is_revision and c.answer is not None]
    counts = Counter(c.answer for c in drafts)
    most = max(counts.values(), default=0)
    leading = [c.correct for c in drafts if counts[c.answer] == most]
    return mean([float(each) for each in leading]) if leading else 0.0


def _row(name: str, attempts: Sequence[RunRecord]) -> tuple[str, ...] | None:
    chains = [attempt.turns for attempt in attempts if attempt.turns]
    judged = _judged(attempts)
    is_revised = any(len(turns) > 1 for turns in chains)
    if not is_revised and not judged:
        return None
    critic = count_verdicts(judged)
    return (
        f"`{name}`",
        *(_flips(chains) if is_revised else [""] * 7),
        *map(markdown.share, (critic.accuracy, critic.precision, critic.recall)),
        markdown.share(feedback_resistance(chains)),
        _refinement(attempts),
        markdown.share(_balance(attempts)),
    )


def _by_turn(name: str, attempts: Iterable[RunRecord]) -> list[str]:
    chains = [[turn.correct for turn in attempt.turns] for attempt in attempts if attempt.turns]
    figures = accuracy_by_turn(chains) if chains else []
    return [f"`{name}`", *(f"{100 * each:.1f}" for each in figures)]


def _flips(chains: Sequence[Sequence[Turn]]) -> list[str]:
    truth = [[turn.correct for turn in turns] for turns in chains]
    made, parts = change(truth), decompose([[(turns[0], turns[-1])] for turns in truth])
    shares = (made.before, made.after, made.fixed, made.broken)
    return [
        *(f"{100 * each:.1f}" for each in shares),
        *map(markdown.share, (parts.cl, parts.cs, parts.rss)),
    ]


def _judged(attempts: Iterable[RunRecord]) -> list[Turn | GradedCandidate]:
    """Whatever has a critic's verdict: candidates, or turns of attempts whose candidates have none."""
    found: list[Turn | GradedCandidate] = []
    for attempt in attempts:
        candidates = [c for c in attempt.candidates if c.accepted is not None]
        found += candidates or [turn for turn in attempt.turns if turn.accepted is not None]
    return found


def _refinement(attempts: Sequence[RunRecord]) -> str:
    graded = [attempt for attempt in attempts if any(c.is_revision for c in attempt.candidates)]
    if not graded:
        return ""
    tried = [attempt for attempt in attempts if attempt.candidates]
    accuracy = mean([float(attempt.correct) for attempt in tried])
    return f"{100 * refinement_gap(accuracy, mean([majority_of_drafts(a) for a in tried])):+.2f}"


def _balance(attempts: Iterable[RunRecord]) -> float | None:
    judged = [a for a in attempts if any(c.accepted is not None for c in a.candidates)]
    chosen = [[c for c in attempt.candidates if c.accepted] for attempt in judged]
    return balance_score([(sum(c.correct for c in each), len(each)) for each in chosen])
