"""What strategies came to in runs: accuracy against cost, calibration and turns, from records files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from secondpass.service.evaluation import markdown, plots
from secondpass.service.evaluation.attempts import About, Attempt
from secondpass.service.evaluation.cost import cost
from secondpass.service.evaluation.frontier import (
    DECODE,
    SECONDS,
    Point,
    compare,
    points_of,
    reference_of,
    shared,
)
from secondpass.service.evaluation.intervals import mean
from secondpass.service.evaluation.intervals import verdict as verdict_of
from secondpass.service.evaluation.records import Records
from secondpass.service.evaluation.scores import aurc, auroc, ece
from secondpass.service.evaluation.selection import gap_closed
from secondpass.service.evaluation.turns import change, decompose, feedback_resistance, verdicts
from secondpass.service.pools.jsonl import BadLine

MARGIN = 0.02

_FRONTIER = f"""\\
Accuracy in % with 95% Wilson intervals. The difference is to plain voting (`self_consistency` by n) at equal decode tokens, in points,
with a 95% bootstrap interval over questions; `>` marks a strategy dearer than the whole line, which is compared with its end.
Non-inferior: a loss of {100 * MARGIN:g} points lies outside of the interval. Gap: the share of (any right - majority) that is closed, both of the
largest vote. Tokens and seconds are of one question; wasted decode tokens are part of the decode tokens."""
_HEADINGS = (
    "strategy", "accuracy", "difference", "verdict", "gap", "decode tokens", "uncached prompt", "wasted", "p50 s", "p95 s", "failed"
)  # fmt: skip
_TURNS = """\\
Revisions: shares of all questions in %. CL, CS and RSS as in arXiv 2412.19513; critic: its verdicts' accuracy, precision and recall of
rejecting; resistance: the share of lasting errors with right feedback all along (our operational form of a category of arXiv 2506.11930)."""
_TURN_HEADINGS = (
    "strategy", "turn 1", "last turn", "i→c", "c→i", "CL", "CS", "RSS", "critic", "precision", "recall", "resistance"
)  # fmt: skip
_CONFIDENCE = "Confidence of the final answer: AUROC (ties half), ECE (10 bins) and AURC."


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """All attempts on one question set with one model, and the files' own words about them."""

    data: str
    model: str
    abouts: tuple[About, ...]
    attempts: tuple[Attempt, ...]


def gather(files: Iterable[tuple[Path, Records]]) -> list[Runs]:
    """Records by question set and model. Raises BadLine for an attempt that is in two files."""
    groups: dict[tuple[str, str], list[tuple[Path, Records]]] = {}
    for path, records in files:
        groups.setdefault((records.about.data, records.about.model), []).append((path, records))
    for group in groups.values():
        _check_once(group)
    return [
        Runs(
            data=data,
            model=model,
            abouts=tuple(records.about for _, records in group),
            attempts=tuple(chain.from_iterable(records.attempts for _, records in group)),
        )
        for (data, model), group in sorted(groups.items())
        if any(records.attempts for _, records in group)
    ]


def run_section(runs: Runs, folder: Path) -> str:
    """The tables of one question set and model, and its frontier, which is drawn into `folder`."""
    questions = _questions(runs.attempts, attempts := shared(runs.attempts))
    runs = replace(runs, attempts=tuple(attempts))
    points = points_of(attempts)
    stem = folder / ("frontier-" + re.sub(r"[^a-z0-9]+", "-", f"{runs.data}-{runs.model}".lower()).strip("-"))  # fmt: skip
    caption = f"{runs.data}, {runs.model}: {questions}; 95% intervals; non-inferiority margin {100 * MARGIN:g} points"  # fmt: skip
    panels = [plots.Panel(title=runs.data, unit=unit, points=points) for unit in (DECODE, SECONDS)]
    plots.draw([panel for panel in panels if _is_known(panel)], caption, stem)
    blocks = [
        f"### {runs.data}, {runs.model}",
        "\n".join(_origin(runs.abouts, questions)),
        _FRONTIER,
        markdown.table(_HEADINGS, frontier_rows(runs, points)),
        f"![accuracy against cost]({folder.name}/{stem.name}.svg)",
    ]
    if revised := _revised(runs, points):
        blocks += [_TURNS, markdown.table(_TURN_HEADINGS, revised)]
    if confident := _confident(runs, points):
        blocks += [_CONFIDENCE, markdown.table(("strategy", "attempts", "AUROC", "ECE", "AURC"), confident)]  # fmt: skip
    return "\n\n".join(blocks)


def readme_rows(runs: Runs) -> list[tuple[str, ...]]:
    """For each strategy: question set and model, name, accuracy, difference at equal tokens, decode tokens."""
    attempts = tuple(shared(runs.attempts))
    rows = frontier_rows(replace(runs, attempts=attempts), points_of(attempts))
    return [(f"{runs.data}, {runs.model}", name, accuracy, difference, decode)
            for name, accuracy, difference, _, _, decode, *_ in rows]  # fmt: skip


def frontier_rows(runs: Runs, points: Sequence[Point]) -> list[tuple[str, ...]]:
    """A row for each point, the cheapest first."""
    line = reference_of(points, DECODE)
    gap = _gap(runs, line)
    return [
        _frontier_row(runs, point, line, gap)
        for point in sorted(points, key=lambda each: each.cost(DECODE))
    ]


def _frontier_row(
    runs: Runs, point: Point, line: Sequence[Point], gap: tuple[float, float] | None
) -> tuple[str, ...]:
    tried = _attempts(runs, point)
    bill = cost(tried)
    difference, verdict = "", ""
    if line and point not in line:
        made = compare(point, line, DECODE)
        difference = ("> " if made.place == "dearer" else "") + markdown.points(made.difference)
        verdict = "cheaper than the line" if made.difference is None else verdict_of(made.difference, MARGIN)  # fmt: skip
    return (
        f"`{point.name}`",
        markdown.percent(point.accuracy),
        difference,
        verdict,
        markdown.share(gap_closed(point.accuracy.value, *gap), 2) if gap else "",
        f"{bill.decode:.0f}",
        f"{bill.uncached:.0f}",
        f"{bill.wasted:.0f}",
        f"{bill.p50:.2f}",
        f"{bill.p95:.2f}",
        str(sum(attempt.error is not None for attempt in tried)),
    )


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


def _revised(runs: Runs, points: Iterable[Point]) -> list[tuple[str, ...]]:
    rows = []
    for point in points:
        chains = [attempt.turns for attempt in _attempts(runs, point) if attempt.turns]
        if not any(len(turns) > 1 for turns in chains):
            continue
        truth = [[turn.correct for turn in turns] for turns in chains]
        made, parts = change(truth), decompose([[(turns[0], turns[-1])] for turns in truth])
        critic = verdicts(chain.from_iterable(chains))
        shares = (made.before, made.after, made.fixed, made.broken)
        levels = (parts.cl, parts.cs, parts.rss, critic.accuracy, critic.precision, critic.recall)
        rows.append(
            (
                f"`{point.name}`",
                *(f"{100 * each:.1f}" for each in shares),
                *map(markdown.share, (*levels, feedback_resistance(chains))),
            )
        )
    return rows


def _confident(runs: Runs, points: Iterable[Point]) -> list[tuple[str, ...]]:
    rows = []
    for point in points:
        pairs = [(a.confidence, a.correct) for a in _attempts(runs, point) if a.confidence is not None]  # fmt: skip
        if pairs:
            scores, correct = [score for score, _ in pairs], [ok for _, ok in pairs]
            figures = (auroc(scores, correct), ece(scores, correct), aurc(scores, correct))
            rows.append((f"`{point.name}`", str(len(pairs)), *map(markdown.share, figures)))
    return rows


def _attempts(runs: Runs, point: Point) -> list[Attempt]:
    wanted = (point.strategy, point.setting)
    return [each for each in runs.attempts if (each.strategy, each.setting) == wanted]


def _questions(every: Sequence[Attempt], used: Sequence[Attempt]) -> str:
    n = len({each.question for each in used})
    left_out = len({each.question for each in every}) - n
    rest = f" that every strategy tried; {left_out} more were not" if left_out else ""
    return f"{n} questions{rest}"


def _origin(abouts: Sequence[About], questions: str) -> list[str]:
    lines = [f"* {questions}"]
    for about in dict.fromkeys(abouts):
        facts = (about.date, about.engine, f"`{about.command}`" if about.command else "")
        if any(facts):
            lines.append("* " + ", ".join(filter(None, facts)))
    return lines


def _is_known(panel: plots.Panel) -> bool:
    """Is there a cost that a logarithmic axis can show?"""
    return all(point.cost(panel.unit) > 0 for point in panel.points)


def _check_once(group: Sequence[tuple[Path, Records]]) -> None:
    seen: dict[tuple[str, str, str, int], Path] = {}
    for path, records in group:
        for each in records.attempts:
            if each.key in seen:
                raise BadLine(path, None, f"{each.label} is in {seen[each.key]} too")
            seen[each.key] = path
