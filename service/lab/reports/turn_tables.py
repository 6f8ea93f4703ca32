"""Tables of revisions and critic verdicts from run records."""

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

_EXPLANATION = """\
* **turn 1, last turn**: accuracy of the first and the last answer of the chain of revisions, in %.
* **i→c, c→i**: share of all questions whose answer changed from incorrect to correct, or from correct to incorrect, in %.
* **CL, CS, RSS**: decomposition of the last accuracy (arXiv 2412.19513). CL is the probability that a correct answer stays correct. CS
  is the probability that an incorrect one becomes correct. RSS scales the last accuracy from 0 (acc1²) to 1 (1 - (1 - acc1)²), where acc1 is
  the first accuracy.
* **critic accuracy, precision, recall**: of the critic's verdicts. Precision and recall are of rejecting incorrect answers.
* **resistance**: share of lasting errors for which all feedback was correct, our operational form of a category of arXiv 2506.11930.
* **refinement gap**: accuracy of the answer minus that of the majority of the drafts, in points (arXiv 2509.00084).
* **balance**: balance score of the answers that the critic accepted (arXiv 2412.17256)."""
_HEADINGS = (
    "strategy", "turn 1, %", "last turn, %", "i→c, %", "c→i, %", "CL", "CS", "RSS", "critic accuracy", "critic precision", "critic recall",
    "resistance", "refinement gap", "balance"
)  # fmt: skip

NamedRecords = tuple[str, Sequence[RunRecord]]
"""Strategy with its setting, and its run records."""


def turn_blocks(named: Iterable[NamedRecords]) -> list[str]:
    """Return the explanation and the tables; an empty list without revisions and verdicts.

    A second table has the accuracy after each turn, for strategies with more than two turns.
    """
    named = list(named)
    rows = [row for name, records in named if (row := _row(name, records)) is not None]
    by_turn = [_by_turn(name, records) for name, records in named]
    long = [figures for figures in by_turn if len(figures) > 1 + 2]
    blocks = [_EXPLANATION, markdown.table(_HEADINGS, rows)] if rows else []
    if long:
        turns = max(map(len, long)) - 1
        headings = ("accuracy, %", *(f"turn {1 + at}" for at in range(turns)))
        padded = [[*figures, *[""] * (1 + turns - len(figures))] for figures in long]
        blocks.append(markdown.table(headings, padded))
    return blocks


def majority_of_drafts(record: RunRecord) -> float:
    """Return the expected accuracy (0 to 1) of the drafts' majority; tied answers share, no answer is 0."""
    drafts = [c for c in record.candidates if not c.is_revision and c.answer is not None]
    counts = Counter(c.answer for c in drafts)
    most = max(counts.values(), default=0)
    leading = [c.correct for c in drafts if counts[c.answer] == most]
    return mean([float(each) for each in leading]) if leading else 0.0


def _row(name: str, records: Sequence[RunRecord]) -> tuple[str, ...] | None:
    chains = [record.turns for record in records if record.turns]
    judged = _judged(records)
    is_revised = any(len(turns) > 1 for turns in chains)
    if not is_revised and not judged:
        return None
    critic = count_verdicts(judged)
    return (
        f"`{name}`",
        *(_flips(chains) if is_revised else [""] * 7),
        *map(markdown.share, (critic.accuracy, critic.precision, critic.recall)),
        markdown.share(feedback_resistance(chains)),
        _refinement(records),
        markdown.share(_balance(records)),
    )


def _by_turn(name: str, records: Iterable[RunRecord]) -> list[str]:
    chains = [[turn.correct for turn in record.turns] for record in records if record.turns]
    figures = accuracy_by_turn(chains) if chains else []
    return [f"`{name}`", *(f"{100 * each:.1f}" for each in figures)]


def _flips(chains: Sequence[Sequence[Turn]]) -> list[str]:
    correct = [[turn.correct for turn in turns] for turns in chains]
    changed, parts = change(correct), decompose([[(turns[0], turns[-1])] for turns in correct])
    shares = (changed.before, changed.after, changed.fixed, changed.broken)
    return [
        *(f"{100 * each:.1f}" for each in shares),
        *map(markdown.share, (parts.cl, parts.cs, parts.rss)),
    ]


def _judged(records: Iterable[RunRecord]) -> list[Turn | GradedCandidate]:
    """Return everything with a verdict: candidates, or the turns of runs whose candidates have none."""
    found: list[Turn | GradedCandidate] = []
    for record in records:
        candidates = [c for c in record.candidates if c.accepted is not None]
        found += candidates or [turn for turn in record.turns if turn.accepted is not None]
    return found


def _refinement(records: Sequence[RunRecord]) -> str:
    if not any(c.is_revision for record in records for c in record.candidates):
        return ""
    drawn = [record for record in records if record.candidates]
    accuracy = mean([float(record.correct) for record in drawn])
    return f"{100 * refinement_gap(accuracy, mean([majority_of_drafts(r) for r in drawn])):+.2f}"


def _balance(records: Iterable[RunRecord]) -> float | None:
    judged = [r for r in records if any(c.accepted is not None for c in r.candidates)]
    chosen = [[c for c in record.candidates if c.accepted] for record in judged]
    return balance_score([(sum(c.correct for c in each), len(each)) for each in chosen])
