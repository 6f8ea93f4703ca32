"""Accuracy against cost: what a strategy gains or loses against plain voting that costs the same.

The reference line joins the settings of self-consistency by cost. Between two of them it is straight, because
choosing between them at random attains every point of that line.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from secondpass.service.lab.evaluation.intervals import Estimate, bootstrap, mean, wilson
from secondpass.service.lab.evaluation.run_record import RunRecord
from secondpass.service.lab.evaluation.votes import Poll, replay_votes
from secondpass.strategies.api.errors import SecondpassError

REFERENCE = "self_consistency"
DECODE, SECONDS, SAMPLES = "decode tokens", "seconds", "samples"

Place = Literal["within", "cheaper", "dearer"]


class NoSharedQuestions(SecondpassError):
    """No question was tried by every strategy, so that there is nothing to compare."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(f"no question was tried by all of: {', '.join(names)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A strategy at one setting: for each question (same order in all points) its accuracy and its costs by unit."""

    strategy: str
    setting: str
    accuracies: tuple[float, ...]
    costs: Mapping[str, tuple[float, ...]]

    @property
    def name(self) -> str:
        """Strategy and setting as tables show them."""
        return f"{self.strategy} {self.setting}".strip()

    @property
    def accuracy(self) -> Estimate:
        """The mean over questions, with its interval."""
        return mean_accuracy(self.accuracies)

    def cost(self, unit: str) -> float:
        """The mean cost of a question."""
        return mean(self.costs[unit])


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A point against the reference line at equal cost; `place` says where its cost lies on the line.

    A point that is dearer than the whole line is compared with its end, which favours the point. One that is cheaper than
    the whole line has no difference.
    """

    place: Place
    difference: Estimate | None


def mean_accuracy(accuracies: Sequence[float]) -> Estimate:
    """The mean accuracy with its Wilson interval; shares of shuffles or ties count as fractions of successes."""
    return wilson(min(float(len(accuracies)), sum(accuracies)), len(accuracies))


def shared(attempts: Sequence[RunRecord]) -> list[RunRecord]:
    """The attempts at questions that every strategy and setting tried. Raises NoSharedQuestions."""
    tried: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in attempts:
        tried[each.strategy, each.setting].add(each.question)
    common = set.intersection(*tried.values()) if tried else set()
    if not common:
        raise NoSharedQuestions(" ".join(key).strip() for key in tried)
    return [each for each in attempts if each.question in common]


def points_of(attempts: Sequence[RunRecord]) -> list[Point]:
    """A point for each strategy and setting, over the questions that all of them tried.

    Shuffles of one question are averaged. A question of which no cost is known has the mean of the others. Raises
    NoSharedQuestions.
    """
    runs: dict[tuple[str, str], dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for each in shared(attempts):
        runs[each.strategy, each.setting][each.question].append(each)
    return [
        _point(strategy, setting, [tries for _, tries in sorted(by_question.items())])
        for (strategy, setting), by_question in runs.items()
    ]


def _point(strategy: str, setting: str, questions: Sequence[Sequence[RunRecord]]) -> Point:
    def costs(figure: Callable[[RunRecord], float]) -> tuple[float, ...]:
        known = [[figure(each) for each in tries if each.is_billed] for tries in questions]
        usual = mean([mean(each) for each in known if each] or [0.0])
        return tuple(mean(each) if each else usual for each in known)

    return Point(
        strategy=strategy,
        setting=setting,
        accuracies=tuple(mean([float(each.correct) for each in tries]) for tries in questions),
        costs={DECODE: costs(lambda each: each.usage.decode), SECONDS: costs(lambda each: each.seconds)},
    )  # fmt: skip


def vote_curve(polls: Sequence[Poll], sizes: Iterable[int], shuffles: int = 20) -> list[Point]:
    """Self-consistency by n over recorded samples; the cost is in samples."""
    curve = []
    for n in sizes:
        made = replay_votes(polls, n=n, shuffles=shuffles)
        curve.append(
            Point(
                strategy=REFERENCE,
                setting=f"n={n}",
                accuracies=made.accuracies,
                costs={SAMPLES: made.drawn},
            )
        )
    return curve


def reference_of(points: Iterable[Point], unit: str) -> list[Point]:
    """The points of the reference line, the cheapest first: self-consistency with nothing set but its n."""
    return sorted(
        (p for p in points if p.strategy == REFERENCE and _is_plain(p.setting)),
        key=lambda point: point.cost(unit),
    )


def compare(
    point: Point, line: Sequence[Point], unit: str, *, seed: int = 0, resamples: int = 2000
) -> Comparison:
    """The accuracy of `point` less that of `line` (of `reference_of`) at the same cost, bootstrapped by question.

    Costs are resampled with the accuracies. Raises ValueError for an empty line, or one of other questions.
    """
    if not line or any(len(other.accuracies) != len(point.accuracies) for other in line):
        raise ValueError(f"{point.name}: the reference line must have points, over the same questions")  # fmt: skip
    spent = point.cost(unit)
    if spent < line[0].cost(unit):
        return Comparison(place="cheaper", difference=None)
    rows = list(
        zip(
            point.accuracies,
            point.costs[unit],
            *(other.accuracies for other in line),
            *(other.costs[unit] for other in line),
            strict=True,
        )
    )
    return Comparison(
        place="within" if spent <= line[-1].cost(unit) else "dearer",
        difference=bootstrap(rows, _above_the_line, seed=seed, resamples=resamples),
    )


def interpolate(at: float, costs: Sequence[float], values: Sequence[float]) -> float:
    """The value at cost `at` on the line through (costs, values), costs ascending; beyond an end, that of the end."""
    right = bisect_left(costs, at)
    if right in (0, len(costs)):
        return values[0 if right == 0 else -1]
    low, high = costs[right - 1], costs[right]
    weight = (at - low) / (high - low)
    return values[right - 1] * (1 - weight) + values[right] * weight


def _above_the_line(rows: Sequence[tuple[float, ...]]) -> float:
    """Columns: accuracy, cost, the accuracies of the line's points, their costs."""
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    size = (len(means) - 2) // 2
    ordered = sorted(zip(means[2 + size :], means[2 : 2 + size], strict=True))
    costs, values = zip(*ordered, strict=True)
    above: float = means[0] - interpolate(means[1], costs, values)
    return above


def _is_plain(setting: str) -> bool:
    name, _, n = setting.partition("=")
    return name == "n" and n.isdecimal()
