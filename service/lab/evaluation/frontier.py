"""Accuracy against cost: the difference between a strategy and plain voting at equal cost.

The reference line connects the settings of self-consistency in order of cost. It is straight between two settings,
because a random choice between them reaches every point of the segment.
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

Place = Literal["within", "below", "above"]


class NoSharedQuestions(SecondpassError):
    """No question was run with every strategy, so nothing can be compared."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(f"no question was run with all of: {', '.join(names)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A strategy at one setting: accuracy and costs by unit, per question.

    All points have the same questions in the same order.
    """

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
        """Mean over questions, with its interval."""
        return mean_accuracy(self.accuracies)

    def cost(self, unit: str) -> float:
        """Return the mean cost per question in `unit`."""
        return mean(self.costs[unit])


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Difference between a point and the reference line at equal cost.

    `place` is the position of the point's cost relative to the costs of the line. Above the line the point is compared
    with its last point, which favours the point. Below the line there is no difference.
    """

    place: Place
    difference: Estimate | None


def mean_accuracy(accuracies: Sequence[float]) -> Estimate:
    """Return the mean with its Wilson interval; shuffles and ties count as partial successes."""
    return wilson(min(float(len(accuracies)), sum(accuracies)), len(accuracies))


def on_shared_questions(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the records of questions that were run with every setting. Raises NoSharedQuestions."""
    asked: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in records:
        asked[each.strategy, each.setting].add(each.question)
    common = set.intersection(*asked.values()) if asked else set()
    if not common:
        raise NoSharedQuestions(" ".join(key).strip() for key in asked)
    return [each for each in records if each.question in common]


def points_of(records: Sequence[RunRecord]) -> list[Point]:
    """Return a point for each strategy and setting, over the questions that were run with all of them.

    Shuffles of one question are averaged. A question without a known cost gets the mean of the others. Raises
    NoSharedQuestions.
    """
    by_setting: dict[tuple[str, str], dict[str, list[RunRecord]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for each in on_shared_questions(records):
        by_setting[each.strategy, each.setting][each.question].append(each)
    return [
        _point(strategy, setting, [runs for _, runs in sorted(by_question.items())])
        for (strategy, setting), by_question in by_setting.items()
    ]


def _point(strategy: str, setting: str, questions: Sequence[Sequence[RunRecord]]) -> Point:
    def costs(figure: Callable[[RunRecord], float]) -> tuple[float, ...]:
        known = [[figure(each) for each in runs if each.has_known_cost] for runs in questions]
        usual = mean([mean(each) for each in known if each] or [0.0])
        return tuple(mean(each) if each else usual for each in known)

    return Point(
        strategy=strategy,
        setting=setting,
        accuracies=tuple(mean([float(each.correct) for each in runs]) for runs in questions),
        costs={DECODE: costs(lambda each: each.usage.decode), SECONDS: costs(lambda each: each.seconds)},
    )  # fmt: skip


def vote_curve(polls: Sequence[Poll], sizes: Iterable[int], shuffles: int = 20) -> list[Point]:
    """Return the points of self-consistency by n over recorded samples; costs are in samples."""
    curve = []
    for n in sizes:
        replayed = replay_votes(polls, n=n, shuffles=shuffles)
        curve.append(
            Point(
                strategy=REFERENCE,
                setting=f"n={n}",
                accuracies=replayed.accuracies,
                costs={SAMPLES: replayed.drawn},
            )
        )
    return curve


def reference_of(points: Iterable[Point], unit: str) -> list[Point]:
    """Return the points of the reference line, the cheapest first: self-consistency with only `n` set."""
    return sorted(
        (p for p in points if p.strategy == REFERENCE and _is_plain(p.setting)),
        key=lambda point: point.cost(unit),
    )


def compare(
    point: Point, line: Sequence[Point], unit: str, *, seed: int = 0, resamples: int = 2000
) -> Comparison:
    """Return the accuracy of `point` minus that of `line` at the same cost, bootstrapped over questions.

    `line` comes from `reference_of`. Costs are resampled together with the accuracies. Raises ValueError if the line is
    empty or covers other questions.
    """
    if not line or any(len(other.accuracies) != len(point.accuracies) for other in line):
        raise ValueError(f"{point.name}: the reference line must have points over the same questions")  # fmt: skip
    spent = point.cost(unit)
    if spent < line[0].cost(unit):
        return Comparison(place="below", difference=None)
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
        place="within" if spent <= line[-1].cost(unit) else "above",
        difference=bootstrap(rows, _above_the_line, seed=seed, resamples=resamples),
    )


def interpolate(at: float, costs: Sequence[float], values: Sequence[float]) -> float:
    """Interpolate linearly through (costs, values) at cost `at`.

    `costs` are ascending. Beyond an end, the value of that end is returned.
    """
    right = bisect_left(costs, at)
    if right in (0, len(costs)):
        return values[0 if right == 0 else -1]
    low, high = costs[right - 1], costs[right]
    weight = (at - low) / (high - low)
    return values[right - 1] * (1 - weight) + values[right] * weight


def _above_the_line(rows: Sequence[tuple[float, ...]]) -> float:
    """Return the mean accuracy minus that of the line at the mean cost.

    Columns: accuracy, cost, the accuracies of the line's points, their costs.
    """
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    size = (len(means) - 2) // 2
    ordered = sorted(zip(means[2 + size :], means[2 : 2 + size], strict=True))
    costs, values = zip(*ordered, strict=True)
    above: float = means[0] - interpolate(means[1], costs, values)
    return above


def _is_plain(setting: str) -> bool:
    name, _, n = setting.partition("=")
    return name == "n" and n.isdecimal()
