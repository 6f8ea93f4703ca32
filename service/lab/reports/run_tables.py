"""What strategies came to in runs: accuracy against cost, calibration and turns, from records files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from secondpass.service.lab.evaluation.cost import cost
from secondpass.service.lab.evaluation.frontier import (
    DECODE,
    SECONDS,
    Point,
    compare,
    points_of,
    reference_of,
    shared,
)
from secondpass.service.lab.evaluation.intervals import conclude, mean, paired_difference
from secondpass.service.lab.evaluation.records import Records
from secondpass.service.lab.evaluation.run_record import About, RunRecord
from secondpass.service.lab.evaluation.selection import gap_closed
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.reports import markdown, plots
from secondpass.service.lab.reports.confidence_tables import score_blocks
from secondpass.service.lab.reports.turn_tables import turn_blocks

MARGIN = 0.02

_FRONTIER = f"""\
Accuracy in % with 95% Wilson intervals. Differences are in points, question by question, with 95% bootstrap intervals: to `single`, and
to plain voting (`self_consistency` by n) at equal decode tokens, on the line through its points; `>` marks a strategy dearer than the whole line, which is compared with its end.
Non-inferior: a loss of {100 * MARGIN:g} points lies outside of the interval. Gap: the share of (any right - majority) that is closed, both of the
largest vote. Tokens and seconds are of one question; wasted decode tokens are part of the decode tokens. A run that failed is wrong, and cost what
it had spent by then; where that is not known, costs are those of the other runs."""
_HEADINGS = (
    "strategy", "accuracy", "to single", "to voting", "verdict", "gap", "decode tokens", "uncached prompt", "wasted", "p50 s", "p95 s", "failed"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """All attempts on one question set with one model, and the files' own words about them.

    Attempts without the answer format are an experiment of their own. `formatted` is None where a file does not tell;
    those stand with the ones that have it.
    """

    data: str
    model: str
    formatted: bool | None = None
    abouts: tuple[About, ...]
    attempts: tuple[RunRecord, ...]

    @property
    def title(self) -> str:
        """What was run, as headings and tables have it."""
        plain = ", without the answer format" if self.formatted is False else ""
        return f"{self.data}, {self.model}{plain}"


def gather(files: Iterable[tuple[Path, Records]]) -> list[Runs]:
    """Records by question set, model and format. Raises BadLine for an attempt that is in two files.

    A setting that was run with a calibration of its judge and without one, or with two, is two settings.
    """
    groups: dict[tuple[str, str, bool], list[tuple[Path, Records]]] = {}
    for path, records in files:
        about = records.about
        key = (about.data, about.model, about.formatted is False)
        groups.setdefault(key, []).append((path, records))
    for key, group in groups.items():
        groups[key] = _told_apart(group)
        _check_once(groups[key])
    return [
        Runs(
            data=data,
            model=model,
            formatted=_format({records.about.formatted for _, records in group}),
            abouts=tuple(records.about for _, records in group),
            attempts=tuple(chain.from_iterable(records.attempts for _, records in group)),
        )
        for (data, model, _), group in sorted(groups.items())
        if any(records.attempts for _, records in group)
    ]


def _told_apart(group: Sequence[tuple[Path, Records]]) -> list[tuple[Path, Records]]:
    """The same attempts, whose settings name their calibration where there are several of one setting."""
    known: dict[tuple[str, str], set[str]] = {}
    for _, records in group:
        for each in records.attempts:
            known.setdefault((each.strategy, each.setting), set()).add(records.about.calibration)

    def named(each: RunRecord, calibration: str) -> RunRecord:
        if not calibration or len(known[each.strategy, each.setting]) == 1:
            return each
        return replace(each, setting=f"{each.setting} ({calibration})".strip())

    return [
        (path, replace(r, attempts=tuple(named(each, r.about.calibration) for each in r.attempts)))
        for path, r in group
    ]


def _format(said: set[bool | None]) -> bool | None:
    return None if None in said else said.pop()


def run_section(runs: Runs, folder: Path) -> str:
    """The tables of one question set and model, and its frontier, which is drawn into `folder`."""
    questions = _questions(runs.attempts, attempts := shared(runs.attempts))
    runs = replace(runs, attempts=tuple(attempts))
    points = points_of(attempts)
    stem = folder / ("frontier-" + re.sub(r"[^a-z0-9]+", "-", runs.title.lower()).strip("-"))  # fmt: skip
    caption = f"{runs.title}: {questions}; 95% intervals; non-inferiority margin {100 * MARGIN:g} points"  # fmt: skip
    known = [unit for unit in (DECODE, SECONDS) if _is_known(points, unit)]
    if known:
        panels = [plots.Panel(title=runs.data, unit=unit, points=points) for unit in known]
        plots.draw(panels, caption, stem)
    blocks = [
        f"### {runs.title}",
        "\n".join(_origin(runs.abouts, questions)),
        _FRONTIER,
        markdown.table(_HEADINGS, frontier_rows(runs, points)),
        *([f"![accuracy against cost]({folder.name}/{stem.name}.svg)"] if known else []),
    ]
    tried = [(point.name, _attempts(runs, point)) for point in points]
    return "\n\n".join([*blocks, *turn_blocks(tried), *score_blocks(tried)])


def readme_rows(runs: Runs) -> list[tuple[str, ...]]:
    """For each strategy at its defaults, whatever its `n`: set and model, name, accuracy, difference at equal tokens, cost."""
    attempts = tuple(shared(runs.attempts))
    rows = frontier_rows(replace(runs, attempts=attempts), points_of(attempts))
    return [(runs.title, name, accuracy, difference, decode)
            for name, accuracy, _, difference, _, _, decode, *_ in rows
            if all(param.startswith("n=") for param in name.strip("`").split()[1:])]  # fmt: skip


def frontier_rows(runs: Runs, points: Sequence[Point]) -> list[tuple[str, ...]]:
    """A row for each point, the cheapest first."""
    line = reference_of(points, DECODE)
    gap, single = _gap(runs, line), single_of(points)
    if not _is_known(points, DECODE):
        line = []
    return [
        _frontier_row(runs, point, line, gap, single)
        for point in sorted(points, key=lambda each: each.cost(DECODE))
    ]


def _frontier_row(
    runs: Runs,
    point: Point,
    line: Sequence[Point],
    gap: tuple[float, float] | None,
    single: Point | None,
) -> tuple[str, ...]:
    tried = _attempts(runs, point)
    bill = cost(tried)
    gained = None
    if single is not None and point is not single:
        gained = paired_difference(point.accuracies, single.accuracies)
    difference, verdict = "", ""
    if line and point not in line:
        made = compare(point, line, DECODE)
        difference = ("> " if made.place == "dearer" else "") + markdown.points(made.difference)
        verdict = "cheaper than the line" if made.difference is None else conclude(made.difference, MARGIN)  # fmt: skip
    return (
        f"`{point.name}`",
        markdown.percent(point.accuracy),
        markdown.points(gained),
        difference,
        verdict,
        markdown.share(gap_closed(point.accuracy.value, *gap), 2) if gap else "",
        *(
            f"{tokens:.0f}" if bill.decode else ""
            for tokens in (bill.decode, bill.uncached, bill.wasted)
        ),
        *(f"{seconds:.2f}" if bill.seconds else "" for seconds in (bill.p50, bill.p95)),
        str(sum(attempt.error is not None for attempt in tried)),
    )


def single_of(points: Iterable[Point]) -> Point | None:
    """The point of one draft: as it comes, else the first setting of it; None where it was not run."""
    found = [point for point in points if point.strategy == "single"]
    return min(found, key=lambda point: bool(point.setting), default=None)


def _gap(runs: Runs, line: Sequence[Point]) -> tuple[float, float] | None:
    """Accuracy of the largest vote, and of an oracle over its candidates; None without a vote's candidates."""
    if not line:
        return None
    largest = max(line, key=lambda point: int(point.setting.partition("=")[2]))
    tried = [attempt for attempt in _attempts(runs, largest) if attempt.candidates]
    if not tried:
        return None
    oracle = mean([float(any(c.correct for c in attempt.candidates)) for attempt in tried])
    return largest.accuracy.value, oracle


def _attempts(runs: Runs, point: Point) -> list[RunRecord]:
    wanted = (point.strategy, point.setting)
    return [each for each in runs.attempts if (each.strategy, each.setting) == wanted]


def _questions(every: Sequence[RunRecord], used: Sequence[RunRecord]) -> str:
    n = len({each.question for each in used})
    left_out = len({each.question for each in every}) - n
    rest = f" that every strategy tried; {left_out} more were not" if left_out else ""
    return f"{n} questions{rest}"


def _origin(abouts: Sequence[About], questions: str) -> list[str]:
    lines = [f"* {questions}"]
    for about in dict.fromkeys(abouts):
        facts = (about.date, about.engine, about.sampling, f"`{about.command}`" if about.command else "")  # fmt: skip
        if any(facts):
            lines.append("* " + ", ".join(filter(None, facts)))
    return lines


def _is_known(points: Iterable[Point], unit: str) -> bool:
    """Was it recorded what all of them cost? A logarithmic axis shows no other."""
    return all(point.cost(unit) > 0 for point in points)


def _check_once(group: Sequence[tuple[Path, Records]]) -> None:
    """Raise BadLine for an attempt in two files, and for a setting of which two files were drawn in different ways."""
    seen: dict[tuple[str, str, str, int], Path] = {}
    drawn: dict[str, tuple[str, Path]] = {}
    for path, records in group:
        for each in records.attempts:
            if each.key in seen:
                raise BadLine(path, None, f"{each.label} is in {seen[each.key]} too")
            seen[each.key] = path
            if not (ours := records.about.sampling):
                continue  # not known
            theirs, other = drawn.setdefault(each.name, (ours, path))
            if theirs != ours:
                problem = f"{each.name} has {ours!r}, and {theirs!r} in {other}; one row has one"
                raise BadLine(path, None, f"sampling: {problem}")
