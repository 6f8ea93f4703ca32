"""What asking for an answer format is worth by itself, before any strategy is credited with what follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from secondpass.service.lab.evaluation.frontier import DECODE, Point, mean_accuracy, points_of
from secondpass.service.lab.evaluation.intervals import paired_difference
from secondpass.service.lab.evaluation.run_record import RunRecord
from secondpass.service.lab.reports import markdown
from secondpass.service.lab.reports.run_tables import Runs

STRATEGY = "single"

_WORDS = """\
The same questions, model and sampling, asked with the task's instruction how to write the answer and without it. Accuracy in % with 95%
Wilson intervals; the difference, question by question, in points with a 95% bootstrap interval over questions."""
_HEADINGS = (
    "questions, model", "strategy", "questions", "with", "without", "difference", "decode tokens with", "without"
)  # fmt: skip


def format_section(every: Sequence[Runs]) -> str | None:
    """The table; None where nothing was run both ways."""
    rows, other = [], []
    for ours, theirs in _pairs(every):
        if _sampling(ours) != _sampling(theirs):
            other.append(f"{ours.data}, {ours.model}")
            continue
        rows += [_row(ours, *points) for points in _shared(ours, theirs)]
    if not rows and not other:
        return None
    blocks = ["### What the answer-format instruction is worth to single", _WORDS]
    if rows:
        blocks.append(markdown.table(_HEADINGS, rows, names=2))
    if other:
        blocks.append(
            f"Not compared, since their samples were drawn differently: {', '.join(other)}."
        )
    return "\n\n".join(blocks)


def _pairs(every: Iterable[Runs]) -> Iterator[tuple[Runs, Runs]]:
    """Runs of one question set and model, with the format and without it."""
    found = {(runs.data, runs.model, runs.formatted): runs for runs in every}
    for (data, model, formatted), runs in found.items():
        if formatted and (other := found.get((data, model, False))) is not None:
            yield runs, other


def _shared(ours: Runs, theirs: Runs) -> Iterator[tuple[Point, Point]]:
    """Each setting of `single` both ways, over the questions that were asked both ways."""
    mine, others = _by_setting(ours), _by_setting(theirs)
    for setting in sorted(mine.keys() & others.keys()):
        common = {a.question for a in mine[setting]} & {a.question for a in others[setting]}
        if common:
            (one,), (two,) = (
                points_of([a for a in tried if a.question in common])
                for tried in (mine[setting], others[setting])
            )
            yield one, two


def _by_setting(runs: Runs) -> dict[str, list[RunRecord]]:
    found: dict[str, list[RunRecord]] = {}
    for attempt in runs.attempts:
        if attempt.strategy == STRATEGY:
            found.setdefault(attempt.setting, []).append(attempt)
    return found


def _row(runs: Runs, ours: Point, theirs: Point) -> tuple[str, ...]:
    return (
        f"{runs.data}, {runs.model}",
        f"`{ours.name}`",
        str(len(ours.accuracies)),
        markdown.percent(mean_accuracy(ours.accuracies)),
        markdown.percent(mean_accuracy(theirs.accuracies)),
        markdown.points(paired_difference(ours.accuracies, theirs.accuracies)),
        f"{ours.cost(DECODE):.0f}",
        f"{theirs.cost(DECODE):.0f}",
    )


def _sampling(runs: Runs) -> set[str]:
    return {about.sampling for about in runs.abouts}
