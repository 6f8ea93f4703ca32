"""Tables of strategies from run records: accuracy against cost, revisions, and scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from secondpass.service.lab.evaluation.cost import cost
from secondpass.service.lab.evaluation.frontier import (
    DECODE,
    SECONDS,
    Point,
    compare,
    on_shared_questions,
    points_of,
    reference_of,
)
from secondpass.service.lab.evaluation.intervals import conclude, mean, paired_difference
from secondpass.service.lab.evaluation.records import Records
from secondpass.service.lab.evaluation.run_record import RecordHeader, RunRecord
from secondpass.service.lab.evaluation.selection import gap_closed
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.reports import markdown, plots
from secondpass.service.lab.reports.confidence_tables import score_blocks
from secondpass.service.lab.reports.turn_tables import turn_blocks

MARGIN = 0.02

_FRONTIER = f"""\
Accuracy is in % with 95% Wilson intervals. Differences are in percentage points, paired by question, with 95% bootstrap intervals.

* **vs `single`**: difference from `single`.
* **vs voting**: difference from plain voting (`self_consistency` with only `n` set) at the same number of decode tokens, on the line
  through its points. `>` marks a strategy that costs more than the most expensive vote and is compared with it. The points of the line
  have no entry.
* **conclusion**: from the interval of "vs voting". Non-inferior means that the interval excludes a loss of {100 * MARGIN:g} points. "cheaper than voting"
  means that the strategy costs less than the cheapest vote, so there is no comparison.
* **gap closed**: share of the gap between the largest vote and an oracle over its candidates. Negative values are below the vote.
* **Costs** are per question: means of tokens, percentiles of seconds. Wasted decode tokens are included in decode tokens.
* **failed**: number of runs without an answer. A failed run counts as incorrect and costs what it had used. If that is unknown, the costs are
  those of the other runs."""
_HEADINGS = (
    "strategy", "accuracy, %", "vs `single`", "vs voting", "conclusion", "gap closed", "decode tokens", "uncached prompt tokens",
    "wasted decode tokens", "p50, s", "p95, s", "failed"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RunGroup:
    """All run records of one question set with one model, and the headers of their files.

    Runs without the answer format form a group of their own. `formatted` is None if a file does not record it; such
    runs are grouped with the formatted ones.
    """

    data: str
    model: str
    formatted: bool | None = None
    abouts: tuple[RecordHeader, ...]
    records: tuple[RunRecord, ...]

    @property
    def title(self) -> str:
        """Question set, model and format, as in headings and tables."""
        plain = ", without the answer format" if self.formatted is False else ""
        return f"{self.data}, {self.model}{plain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTables:
    """A group restricted to the questions that all settings share, with its points and table rows.

    `questions` describes that selection; `rows` are those of `frontier_rows`.
    """

    runs: RunGroup
    questions: str
    points: tuple[Point, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def default_rows(self) -> list[tuple[str, ...]]:
        """The rows of strategies at their defaults, with any `n`."""
        return [row for row in self.rows
                if all(param.startswith("n=") for param in row[0].strip("`").split()[1:])]  # fmt: skip


def group_records(files: Iterable[tuple[Path, Records]]) -> list[RunGroup]:
    """Group records by question set, model and format.

    One setting that was run with different calibrations of its judge, or with and without one, becomes several
    settings. Raises BadLine for a run in two files, or a setting with two kinds of sampling.
    """
    groups: dict[tuple[str, str, bool], list[tuple[Path, Records]]] = {}
    for path, records in files:
        about = records.about
        key = (about.data, about.model, about.formatted is False)
        groups.setdefault(key, []).append((path, records))
    for key, group in groups.items():
        groups[key] = _with_calibrations(group)
        _check_once(groups[key])
    return [
        RunGroup(
            data=data,
            model=model,
            formatted=_format({records.about.formatted for _, records in group}),
            abouts=tuple(records.about for _, records in group),
            records=tuple(chain.from_iterable(records.runs for _, records in group)),
        )
        for (data, model, _), group in sorted(groups.items())
        if any(records.runs for _, records in group)
    ]


def run_report(runs: RunGroup) -> RunTables:
    """Compute the points and rows of a group. Raises NoSharedQuestions."""
    records = on_shared_questions(runs.records)
    questions = _questions(runs.records, records)
    runs = replace(runs, records=tuple(records))
    points = points_of(records)
    return RunTables(
        runs=runs,
        questions=questions,
        points=tuple(points),
        rows=tuple(frontier_rows(runs, points)),
    )


def run_blocks(report: RunTables, folder: Path, level: int = 2) -> Iterator[str]:
    """Yield the Markdown of one group, with headings of `level`, and draw its plot into `folder`."""
    runs, points = report.runs, report.points
    heading = "#" * level
    yield "\n".join(_origin(runs.abouts, report.questions))
    yield f"{heading} Accuracy and cost"
    yield _FRONTIER
    yield markdown.table(_HEADINGS, report.rows)
    known = [unit for unit in (DECODE, SECONDS) if _is_known(points, unit)]
    if known:
        stem = folder / f"frontier-{markdown.slug(runs.title)}"
        panels = [plots.Panel(title=runs.data, unit=unit, points=points) for unit in known]
        caption = f"{runs.title}: {report.questions}; 95% intervals; non-inferiority margin {100 * MARGIN:g} points"  # fmt: skip
        plots.draw(panels, caption, stem)
        yield f"![accuracy against cost]({stem.name}.svg)"
    named = [(point.name, _records(runs, point)) for point in points]
    for title, blocks in (("Revisions and critics", turn_blocks), ("Scores", score_blocks)):
        if made := blocks(named):
            yield f"{heading} {title}"
            yield from made


def frontier_rows(runs: RunGroup, points: Sequence[Point]) -> list[tuple[str, ...]]:
    """Return one table row per point, the cheapest first."""
    line = reference_of(points, DECODE)
    gap, single = _gap(runs, line), single_of(points)
    if not _is_known(points, DECODE):
        line = []
    return [
        _frontier_row(runs, point, line, gap, single)
        for point in sorted(points, key=lambda each: each.cost(DECODE))
    ]


def single_of(points: Iterable[Point]) -> Point | None:
    """Return the point of `single`, preferably at its defaults; None if it was not run."""
    found = [point for point in points if point.strategy == "single"]
    return min(found, key=lambda point: bool(point.setting), default=None)


def _frontier_row(
    runs: RunGroup,
    point: Point,
    line: Sequence[Point],
    gap: tuple[float, float] | None,
    single: Point | None,
) -> tuple[str, ...]:
    records = _records(runs, point)
    spent = cost(records)
    gained = None
    if single is not None and point is not single:
        gained = paired_difference(point.accuracies, single.accuracies)
    difference, conclusion = "", ""
    if line and point not in line:
        compared = compare(point, line, DECODE)
        difference = ("> " if compared.place == "above" else "") + markdown.points(compared.difference)  # fmt: skip
        conclusion = "cheaper than voting" if compared.difference is None else conclude(compared.difference, MARGIN)  # fmt: skip
    return (
        f"`{point.name}`",
        markdown.percent(point.accuracy),
        markdown.points(gained),
        difference,
        conclusion,
        markdown.share(gap_closed(point.accuracy.value, *gap), 2) if gap else "",
        *(
            f"{tokens:.0f}" if spent.decode else ""
            for tokens in (spent.decode, spent.uncached, spent.wasted)
        ),
        *(f"{seconds:.2f}" if spent.seconds else "" for seconds in (spent.p50, spent.p95)),
        str(sum(record.error is not None for record in records)),
    )


def _gap(runs: RunGroup, line: Sequence[Point]) -> tuple[float, float] | None:
    """Return the accuracy of the largest vote and of its oracle; None without candidates."""
    if not line:
        return None
    largest = max(line, key=lambda point: int(point.setting.partition("=")[2]))
    records = [record for record in _records(runs, largest) if record.candidates]
    if not records:
        return None
    oracle = mean([float(any(c.correct for c in record.candidates)) for record in records])
    return largest.accuracy.value, oracle


def _records(runs: RunGroup, point: Point) -> list[RunRecord]:
    setting = (point.strategy, point.setting)
    return [record for record in runs.records if (record.strategy, record.setting) == setting]


def _questions(every: Sequence[RunRecord], used: Sequence[RunRecord]) -> str:
    n = len({record.question for record in used})
    left_out = len({record.question for record in every}) - n
    rest = f" run with every strategy; {left_out} others left out" if left_out else ""
    return f"{n} questions{rest}"


def _origin(abouts: Sequence[RecordHeader], questions: str) -> list[str]:
    lines = [f"* {questions}"]
    for about in dict.fromkeys(abouts):
        facts = (about.date, about.engine, about.sampling, f"`{about.command}`" if about.command else "")  # fmt: skip
        if any(facts):
            lines.append("* " + ", ".join(filter(None, facts)))
    return lines


def _is_known(points: Iterable[Point], unit: str) -> bool:
    """Return whether all points have a cost above 0, which the logarithmic axis requires."""
    return all(point.cost(unit) > 0 for point in points)


def _with_calibrations(group: Sequence[tuple[Path, Records]]) -> list[tuple[Path, Records]]:
    """Append the calibration to settings that were run with more than one."""
    known: dict[tuple[str, str], set[str]] = {}
    for _, records in group:
        for run in records.runs:
            known.setdefault((run.strategy, run.setting), set()).add(records.about.calibration)

    def named(run: RunRecord, calibration: str) -> RunRecord:
        if not calibration or len(known[run.strategy, run.setting]) == 1:
            return run
        return replace(run, setting=f"{run.setting} ({calibration})".strip())

    return [
        (path, replace(r, runs=tuple(named(run, r.about.calibration) for run in r.runs)))
        for path, r in group
    ]


def _format(recorded: set[bool | None]) -> bool | None:
    return None if None in recorded else recorded.pop()


def _check_once(group: Sequence[tuple[Path, Records]]) -> None:
    """Raise BadLine for a run in two files, or for a setting whose files differ in sampling."""
    seen: dict[tuple[str, str, str, int], Path] = {}
    drawn: dict[str, tuple[str, Path]] = {}
    for path, records in group:
        for run in records.runs:
            if run.key in seen:
                raise BadLine(path, None, f"{run.label} is also in {seen[run.key]}")
            seen[run.key] = path
            if not (sampling := records.about.sampling):
                continue  # not recorded
            first, other = drawn.setdefault(run.name, (sampling, path))
            if first != sampling:
                problem = (
                    f"{run.name} has {sampling!r} but {first!r} in {other}; they must be equal"
                )
                raise BadLine(path, None, f"sampling: {problem}")
