"""What recorded samples say of voting, of stopping early, of choosing by a score, and of one revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from secondpass.service.evaluation import markdown, plots
from secondpass.service.evaluation.frontier import SAMPLES, Point, compare, reference_of, vote_curve
from secondpass.service.evaluation.intervals import Estimate, bootstrap, mean, paired_difference
from secondpass.service.evaluation.intervals import verdict as verdict_of
from secondpass.service.evaluation.recorded import Revisions, Votes
from secondpass.service.evaluation.scores import aurc, auroc, ece
from secondpass.service.evaluation.selection import gap_closed, refinement_gap
from secondpass.service.evaluation.turns import change, decompose, feedback_resistance, verdicts
from secondpass.service.evaluation.votes import (
    SHUFFLES,
    Poll,
    Replay,
    any_right,
    majority,
    replay,
    single,
)
from secondpass.strategies.voting import BetaRule, SafeLead, StoppingRule, WindowRule

MARGIN = 0.01
RULES: tuple[tuple[str, str, StoppingRule], ...] = (
    ("adaptive", ".95", BetaRule(0.95)),
    ("adaptive", ".85", BetaRule(0.85)),
    ("window", "5", WindowRule(5)),
    ("lead", "", SafeLead()),
)
"""Strategy name in plots, setting, and rule."""


def vote_section(sets: Sequence[Votes]) -> str:
    """Single, vote and oracle of each set, and each stopping rule against the vote of all samples."""
    return "\n".join(
        [
            "### Votes over recorded samples",
            "",
            "Accuracy in % with 95% Wilson intervals; tied classes share. No model ran: recorded samples were voted on.",
            "",
            markdown.table(
                ("set", "model", "questions", "samples", "single", "majority", "any right"),
                [_overview(each) for each in sets],
                names=2,
            ),
            "",
            f"Stopping rules, {SHUFFLES} shuffles of each question. The difference to the vote of all samples is in points, question by"
            f" question, with a 95% bootstrap interval; non-inferior: a loss of {100 * MARGIN:g} point is outside of it.",
            "",
            markdown.table(
                ("set", "rule", "accuracy", "difference", "samples drawn", "verdict"),
                [row for each in sets for row in _rule_rows(each)],
                names=2,
            ),
        ]
    )


def readme_rows(sets: Sequence[Votes]) -> list[tuple[str, ...]]:
    """For each set: name, questions x samples, one sample, all samples voting, adaptive voting, what that drew."""
    rows = []
    for each in sets:
        made = replay(each.polls, BetaRule(0.95))
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
    return rows


def score_section(sets: Sequence[Votes]) -> str:
    """What choosing by a score is worth, and whether the score tells right from wrong."""
    rows = [_score_row(each, name) for each in sets for name in each.scores]
    return "\n".join(
        [
            "### Choosing by a score",
            "",
            "Best of n by score; a sample without an answer cannot be chosen. The difference is to the majority, in points; the gap is the"
            " share of (any right - majority) that is closed. AUROC, ECE and AURC are over single samples with an answer.",
            "",
            markdown.table(
                ("set", "score", "best of n", "difference", "gap closed", "AUROC", "ECE", "AURC"),
                rows,
                names=2,
            ),
        ]
    )


def revision_section(sets: Sequence[Revisions]) -> str:
    """The metrics of turns for recorded revisions."""
    rows = [_revision_row(each, way) for each in sets for way in each.chains]
    return "\n".join(
        [
            "### One revision, recorded",
            "",
            "Shares of all questions, in %. CL: a right answer stays right; CS: a wrong one is put right (arXiv 2412.19513). Critic: whether"
            " the feedback's verdict on the first answer is right. Resistance: lasting errors although all feedback was right (our"
            " operational form of arXiv 2506.11930).",
            "",
            markdown.table(
                ("set", "revision", "questions", "turn 1", "turn 2", "difference", "i→c", "c→i", "CL", "CS", "RSS", "critic", "resistance"),
                rows,
                names=2,
            ),
            "",
            "Where the feedback comes from unit tests, the critic is right by definition, so every lasting error is resistance.",
        ]
    )  # fmt: skip


def vote_frontier(sets: Sequence[Votes], folder: Path) -> str:
    """Draw accuracy by samples for each set, and give the Markdown that shows it and what is above the line."""
    panels, rows = [], []
    for each in sets:
        points = [*vote_curve(each.polls, _sizes(each.polls)), *_rule_points(each)]
        oracle = mean([any_right(poll) for poll in each.polls])
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
    heading = "Against the vote of as many samples as the rule drew on average, in points (above 0: above the line)."
    return "\n".join(
        [
            f"![accuracy against samples]({folder.name}/frontier-votes.svg)",
            "",
            heading,
            "",
            markdown.table(("set", "rule", "samples", "difference at equal cost"), rows, names=2),
        ]
    )


def _overview(each: Votes) -> tuple[str, ...]:
    n = len(each.polls)
    figures = (single, majority, any_right)
    shares = [Point(strategy="", setting="", costs={}, accuracies=tuple(map(f, each.polls))).accuracy for f in figures]  # fmt: skip
    return (each.name, each.model, str(n), str(len(each.polls[0].classes)), *map(markdown.percent, shares))  # fmt: skip


def _rule_rows(each: Votes) -> Iterator[tuple[str, ...]]:
    everything = [majority(poll) for poll in each.polls]
    for name, setting, rule in RULES:
        made = replay(each.polls, rule)
        difference = paired_difference(made.accuracies, everything)
        yield (
            each.name,
            f"{name} {setting}".strip(),
            f"{100 * made.accuracy:.1f}",
            markdown.points(difference),
            f"{100 * made.share_used:.1f}%",
            verdict_of(difference, MARGIN),
        )


def _rule_points(each: Votes) -> list[Point]:
    return [_point(name, setting, replay(each.polls, rule)) for name, setting, rule in RULES]


def _point(name: str, setting: str, made: Replay) -> Point:
    return Point(
        strategy=name, setting=setting, accuracies=made.accuracies, costs={SAMPLES: made.drawn}
    )


def _sizes(polls: Sequence[Poll]) -> list[int]:
    """1, 2, 3, 5, 8, 10, ... up to all samples."""
    most = len(polls[0].classes)
    return sorted({n for n in (1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 64) if n < most} | {most})


def _score_row(each: Votes, name: str) -> tuple[str, ...]:
    items = [_Scored(poll, scores) for poll, scores in zip(each.polls, each.scores[name], strict=True)]  # fmt: skip
    best = [item.best for item in items]
    vote = [majority(poll) for poll in each.polls]
    flat = [(score, ok) for item in items for score, ok in item.answered]
    scores, correct = [score for score, _ in flat], [ok for _, ok in flat]
    discrimination = bootstrap(items, _pooled_auroc, resamples=500)
    is_confidence = all(0 <= score <= 1 for score in scores)
    gap = gap_closed(mean(best), mean(vote), mean([any_right(poll) for poll in each.polls]))
    assert abs(refinement_gap(mean(best), mean(vote)) - paired_difference(best, vote, resamples=1).value) < 1e-9  # noqa: S101  # fmt: skip
    return (
        each.name,
        name,
        f"{100 * mean(best):.1f}",
        markdown.points(paired_difference(best, vote)),
        markdown.share(gap),
        _plain(discrimination),
        markdown.share(ece(scores, correct)) if is_confidence else "",
        markdown.share(aurc(scores, correct)),
    )


class _Scored:
    """A poll's samples with an answer and their scores."""

    def __init__(self, poll: Poll, scores: Sequence[float]) -> None:
        triples = zip(poll.classes, scores, poll.correct, strict=True)
        self.answered = [(score, ok) for ballot, score, ok in triples if ballot is not None]

    @property
    def best(self) -> float:
        """The expected accuracy of the sample with the highest score; 0 without an answer."""
        top = max((score for score, _ in self.answered), default=0.0)
        tied = [ok for score, ok in self.answered if score == top]
        return sum(tied) / len(tied) if tied else 0.0


def _pooled_auroc(items: Sequence[_Scored]) -> float:
    """The AUROC over all samples; one half where one kind is missing, which tells nothing."""
    flat = [pair for item in items for pair in item.answered]
    made = auroc([score for score, _ in flat], [ok for _, ok in flat])
    return 0.5 if made is None else made


def _plain(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}..{estimate.high:.2f}]"


def _revision_row(each: Revisions, way: str) -> tuple[str, ...]:
    chains = each.chains[way]
    truth = [[turn.correct for turn in chain] for chain in chains]
    made = change(truth)
    parts = decompose([[(chain[0], chain[-1])] for chain in truth])
    gained = paired_difference([float(c[-1]) for c in truth], [float(c[0]) for c in truth])
    critic = verdicts(chain[0] for chain in chains)
    return (
        each.name,
        way,
        str(len(chains)),
        f"{100 * made.before:.1f}",
        f"{100 * made.after:.1f}",
        markdown.points(gained),
        f"{100 * made.fixed:.1f}",
        f"{100 * made.broken:.1f}",
        markdown.share(parts.cl),
        markdown.share(parts.cs),
        markdown.share(parts.rss),
        markdown.share(critic.accuracy),
        markdown.share(feedback_resistance(chains)),
    )
