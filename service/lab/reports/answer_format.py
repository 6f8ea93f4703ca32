"""Effect of the answer-format instruction on `single`: the same questions asked with and without it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from secondpass.service.lab.evaluation.frontier import DECODE, Point, mean_accuracy, points_of
from secondpass.service.lab.evaluation.intervals import paired_difference
from secondpass.service.lab.evaluation.run_record import RunRecord
from secondpass.service.lab.reports import markdown
from secondpass.service.lab.reports.run_tables import RunGroup

STRATEGY = "single"

_EXPLANATION = """\
The same questions, model and sampling, with and without the instruction that asks for an answer format. Accuracy is in % with 95% Wilson
intervals. The difference is in percentage points, paired by question, with a 95% bootstrap interval. Decode tokens are means per question."""
_HEADINGS = (
    "questions, model", "strategy", "questions", "with, %", "without, %", "difference", "decode tokens with", "decode tokens without"
)  # fmt: skip


def format_blocks(groups: Sequence[RunGroup]) -> list[str]:
    """Return the explanation and the table; an empty list if no question set was run both ways."""
    rows, incomparable = [], []
    for formatted, plain in _pairs(groups):
        if _sampling(formatted) != _sampling(plain):
            incomparable.append(f"{formatted.data}, {formatted.model}")
            continue
        rows += [_row(formatted, *points) for points in _on_shared_questions(formatted, plain)]
    if not rows and not incomparable:
        return []
    blocks = [_EXPLANATION]
    if rows:
        blocks.append(markdown.table(_HEADINGS, rows, names=2))
    if incomparable:
        blocks.append(
            f"Not compared because the sampling parameters differ: {', '.join(incomparable)}."
        )
    return blocks


def _pairs(groups: Iterable[RunGroup]) -> Iterator[tuple[RunGroup, RunGroup]]:
    """Yield (with the format, without it) for each question set and model that has both."""
    found = {(runs.data, runs.model, runs.formatted): runs for runs in groups}
    for (data, model, formatted), runs in found.items():
        if formatted and (plain := found.get((data, model, False))) is not None:
            yield runs, plain


def _on_shared_questions(formatted: RunGroup, plain: RunGroup) -> Iterator[tuple[Point, Point]]:
    """Yield (with, without) for each setting of `single`, over the questions that both have."""
    ours, theirs = _by_setting(formatted), _by_setting(plain)
    for setting in sorted(ours.keys() & theirs.keys()):
        common = {r.question for r in ours[setting]} & {r.question for r in theirs[setting]}
        if common:
            (one,), (two,) = (
                points_of([record for record in records if record.question in common])
                for records in (ours[setting], theirs[setting])
            )
            yield one, two


def _by_setting(runs: RunGroup) -> dict[str, list[RunRecord]]:
    found: dict[str, list[RunRecord]] = {}
    for record in runs.records:
        if record.strategy == STRATEGY:
            found.setdefault(record.setting, []).append(record)
    return found


def _row(runs: RunGroup, formatted: Point, plain: Point) -> tuple[str, ...]:
    return (
        f"{runs.data}, {runs.model}",
        f"`{formatted.name}`",
        str(len(formatted.accuracies)),
        markdown.percent(mean_accuracy(formatted.accuracies)),
        markdown.percent(mean_accuracy(plain.accuracies)),
        markdown.points(paired_difference(formatted.accuracies, plain.accuracies)),
        f"{formatted.cost(DECODE):.0f}",
        f"{plain.cost(DECODE):.0f}",
    )


def _sampling(runs: RunGroup) -> set[str]:
    return {about.sampling for about in runs.abouts}
