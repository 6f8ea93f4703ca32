"""Tables of votes over recorded samples, and of rules that stop a vote early."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from secondpass.service.lab.evaluation.frontier import (
    SAMPLES,
    Point,
    compare,
    mean_accuracy,
    reference_of,
    vote_curve,
)
from secondpass.service.lab.evaluation.intervals import conclude, mean, paired_difference
from secondpass.service.lab.evaluation.recorded_sets import VoteSet
from secondpass.service.lab.evaluation.votes import (
    SHUFFLES,
    Poll,
    VoteReplay,
    any_correct,
    majority,
    replay_votes,
    single,
)
from secondpass.service.lab.reports import markdown, plots
from secondpass.strategies.voting.stopping import (
    AdaptiveRule,
    StoppingRule,
    UnbeatableLead,
    WindowRule,
)

MARGIN = 0.01
RULES: tuple[tuple[str, str, StoppingRule], ...] = (
    ("adaptive", ".95", AdaptiveRule(0.95)),
    ("adaptive", ".85", AdaptiveRule(0.85)),
    ("window", "5", WindowRule(5)),
    ("lead", "", UnbeatableLead()),
)
"""Name in plots, setting and rule."""

_OVERVIEW = """\
No model ran: recorded samples were voted on. Accuracy is in % with 95% Wilson intervals; tied answer classes share. The gain of voting is
over one sample, in percentage points with a 95% bootstrap interval. "Any correct" is the accuracy of an oracle that picks a correct sample
if there is one."""
_OVERVIEW_HEADINGS = (
    "recorded set", "model", "questions", "samples", "one sample, %", "majority, %", "gain of voting", "any correct, %"
)  # fmt: skip
_SHORT_HEADINGS = (
    "recorded set", "questions x samples", "one sample, %", "majority of all, %", "adaptive vote .95, %", "samples drawn"
)  # fmt: skip
_RULES = f"""\
Stopping rules of `self_consistency`, with {SHUFFLES} shuffles of each question. The difference is from the vote of all samples, in
percentage points, paired by question, with a 95% bootstrap interval. Non-inferior means that the interval excludes a loss of
{100 * MARGIN:g} point."""
_RULE_HEADINGS = (
    "recorded set",
    "rule",
    "accuracy, %",
    "difference",
    "samples drawn",
    "conclusion",
)
_AT_EQUAL_COST = """\
Difference from the vote of as many samples as the rule drew on average, in percentage points with a 95% bootstrap interval. A flat line
far below the dotted oracle means that correct samples exist but are never the majority. Voting cannot help there, and a rule can only save
samples."""
_FRONTIER_HEADINGS = ("recorded set", "rule", "samples", "difference at equal cost")


def vote_blocks(sets: Sequence[VoteSet]) -> list[str]:
    """Return one sample, majority and oracle of each set, and each stopping rule against the full vote."""
    return [
        "## Majority vote",
        _OVERVIEW,
        markdown.table(_OVERVIEW_HEADINGS, [_overview(each) for each in sets], names=2),
        "## Stopping rules",
        _RULES,
        markdown.table(_RULE_HEADINGS, [row for each in sets for row in _rule_rows(each)], names=2),
    ]


def overview_table(sets: Sequence[VoteSet]) -> str:
    """Return the short table: one sample, full vote, adaptive vote, and the share of samples that it drew."""
    rows: list[tuple[str, ...]] = []
    for each in sets:
        made = replay_votes(each.polls, AdaptiveRule(0.95))
        rows.append(
            (
                f"`{each.name}`",
                f"{len(each.polls)} x {made.available}",
                f"{100 * mean([single(p) for p in each.polls]):.1f}",
                f"{100 * mean([majority(p) for p in each.polls]):.1f}",
                f"{100 * made.accuracy:.1f}",
                f"{100 * made.share_used:.0f}%",
            )
        )
    return markdown.table(_SHORT_HEADINGS, rows)


def frontier_blocks(sets: Sequence[VoteSet], folder: Path) -> list[str]:
    """Draw accuracy against samples into `folder`; return its Markdown and the rules at equal cost."""
    panels, rows = [], []
    for each in sets:
        points = [*vote_curve(each.polls, _sizes(each.polls)), *_rule_points(each)]
        oracle = mean([any_correct(poll) for poll in each.polls])
        panels.append(plots.Panel(title=each.name, unit=SAMPLES, points=points, ceiling=oracle))
        line = reference_of(points, SAMPLES)
        for point in points:
            if point not in line:
                made = compare(point, line, SAMPLES)
                rows.append((each.name, point.name, f"{point.cost(SAMPLES):.2f}", markdown.points(made.difference)))  # fmt: skip
    caption = (
        f"Recorded samples, {SHUFFLES} shuffles; 95% Wilson intervals; non-inferiority margin of the rules against the vote of all: "
        f"{100 * MARGIN:g} point"
    )
    plots.draw(panels, caption, folder / "frontier-votes")
    return [
        "## Stopping rules at equal cost",
        "![accuracy against samples](frontier-votes.svg)",
        _AT_EQUAL_COST,
        markdown.table(_FRONTIER_HEADINGS, rows, names=2),
    ]


def _overview(each: VoteSet) -> tuple[str, ...]:
    one, vote, oracle = (tuple(map(f, each.polls)) for f in (single, majority, any_correct))
    return (
        each.name,
        each.model,
        str(len(each.polls)),
        str(len(each.polls[0].classes)),
        markdown.percent(mean_accuracy(one)),
        markdown.percent(mean_accuracy(vote)),
        markdown.points(paired_difference(vote, one)),
        markdown.percent(mean_accuracy(oracle)),
    )


def _rule_rows(each: VoteSet) -> Iterator[tuple[str, ...]]:
    everything = [majority(poll) for poll in each.polls]
    for name, setting, rule in RULES:
        made = replay_votes(each.polls, rule)
        difference = paired_difference(made.accuracies, everything)
        yield (
            each.name,
            f"{name} {setting}".strip(),
            f"{100 * made.accuracy:.1f}",
            markdown.points(difference),
            f"{100 * made.share_used:.1f}%",
            conclude(difference, MARGIN),
        )


def _rule_points(each: VoteSet) -> list[Point]:
    return [_point(name, setting, replay_votes(each.polls, rule)) for name, setting, rule in RULES]


def _point(name: str, setting: str, made: VoteReplay) -> Point:
    return Point(
        strategy=name, setting=setting, accuracies=made.accuracies, costs={SAMPLES: made.drawn}
    )


def _sizes(polls: Sequence[Poll]) -> list[int]:
    """Return 1, 2, 3, 5, 8, 10, ... up to the number of samples."""
    most = len(polls[0].classes)
    return sorted({n for n in (1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 64) if n < most} | {most})
