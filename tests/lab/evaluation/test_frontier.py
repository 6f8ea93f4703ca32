"""Reference line, comparisons at equal cost, and plots."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.lab.evaluation.cost import cost
from secondpass.service.lab.evaluation.frontier import (
    DECODE,
    SAMPLES,
    SECONDS,
    NoSharedQuestions,
    Point,
    compare,
    interpolate,
    points_of,
    reference_of,
    vote_curve,
)
from secondpass.service.lab.evaluation.records import RunRecord, Tokens
from secondpass.service.lab.evaluation.votes import Poll, majority
from secondpass.service.lab.reports import plots


def point(strategy: str, setting: str, accuracies: list[float], cost: float) -> Point:
    costs = {DECODE: (cost,) * len(accuracies)}
    return Point(strategy=strategy, setting=setting, accuracies=tuple(accuracies), costs=costs)


LINE = [
    point("self_consistency", "n=1", [1.0, 0, 0, 0], 100),
    point("self_consistency", "n=4", [1.0, 1, 0, 0], 400),
]


def test_interpolation_is_linear_and_constant_beyond_the_ends() -> None:
    costs, values = [1.0, 3.0, 7.0], [0.1, 0.3, 0.2]
    at = [interpolate(x, costs, values) for x in (0, 1, 2, 3, 5, 7, 9)]
    assert at == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.25, 0.2, 0.2])


@given(st.floats(0, 10), st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_interpolation_stays_within_the_values(at: float, values: list[float]) -> None:
    between = interpolate(at, [float(i) for i in range(len(values))], values)
    assert min(values) - 1e-9 <= between <= max(values) + 1e-9


def test_comparison_at_equal_cost() -> None:
    # At 250 tokens the line is halfway between 0.25 and 0.5.
    made = compare(point("self_refine", "", [1.0, 1, 1, 0], 250), LINE, DECODE)
    assert made.place == "within"
    assert made.difference is not None
    assert made.difference.value == pytest.approx(0.75 - 0.375)
    assert made.difference.low <= made.difference.value <= made.difference.high


def test_a_point_on_the_line_has_no_difference() -> None:
    for of_line in LINE:
        made = compare(of_line, LINE, DECODE)
        assert made.difference is not None
        assert (made.difference.low, made.difference.high) == pytest.approx((0, 0))


def test_comparison_above_and_below_the_costs_of_the_line() -> None:
    above = compare(point("s", "", [1.0, 1, 1, 0], 9000), LINE, DECODE)
    assert above.place == "above"
    assert above.difference is not None
    assert above.difference.value == pytest.approx(0.25)
    below = compare(point("s", "", [1.0, 1, 1, 0], 9), LINE, DECODE)
    assert (below.place, below.difference) == ("below", None)


def test_the_line_must_cover_the_same_questions() -> None:
    for line in ([], [point("self_consistency", "n=1", [1.0], 1)]):
        with pytest.raises(ValueError, match="s: the reference line must have points"):
            compare(point("s", "", [1.0, 0], 1), line, DECODE)


def test_the_reference_line_is_self_consistency_with_only_n_set() -> None:
    others = [point("self_consistency", "n=4 stop=lead", [1.0], 1), point("single", "", [1.0], 1)]
    assert reference_of([LINE[1], *others, LINE[0]], DECODE) == LINE


def test_points_cover_the_questions_of_all_settings() -> None:
    def attempt(
        question: str, strategy: str, *, shuffle: int = 0, correct: bool = True
    ) -> RunRecord:
        return RunRecord(
            question=question,
            strategy=strategy,
            correct=correct,
            shuffle=shuffle,
            usage=Tokens(decode=10 + 10 * shuffle),
            seconds=2,
        )

    attempts = [attempt("b", "x"), attempt("a", "x", correct=False), attempt("c", "x")]
    attempts += [attempt("a", "y"), attempt("b", "y", correct=False), attempt("b", "y", shuffle=1)]
    x, y = points_of(attempts)
    assert (x.accuracies, y.accuracies) == ((0, 1), (1, 0.5))
    assert y.costs == {DECODE: (10, 15), SECONDS: (2, 2)}
    with pytest.raises(NoSharedQuestions, match="run with all of: x, z"):
        points_of([attempt("a", "x"), attempt("b", "z")])


def test_cost_of_failed_runs() -> None:
    """q0 cost 30, 10 and an unknown amount; q1 failed after 50; q2 is unknown and gets the mean."""

    def attempt(
        question: str, decode: int, shuffle: int = 0, error: str | None = None
    ) -> RunRecord:
        return RunRecord(
            question=question, strategy="x", correct=error is None, shuffle=shuffle, error=error,
            usage=Tokens(decode=decode, wasted=decode // 10), seconds=decode,
        )  # fmt: skip

    attempts = [attempt("q0", 30), attempt("q0", 10, 1), attempt("q0", 0, 2, "gone")]
    attempts += [attempt("q1", 50, error="budget"), attempt("q2", 0, error="gone")]
    (made,) = points_of(attempts)
    assert made.accuracies == pytest.approx([2 / 3, 0, 0])
    assert made.costs == {DECODE: (20, 50, 35), SECONDS: (20, 50, 35)}
    spent = cost(attempts)
    assert (spent.decode, spent.wasted, spent.p50, spent.seconds) == (30, 3, 30, 30)
    assert cost(attempts[-1:]).decode == 0


def test_vote_curve_ends_at_the_majority() -> None:
    polls = [
        Poll(question="q", classes=(0, 0, 1), correct=(True, True, False)),
        Poll(question="r", classes=(0, 1, 2), correct=(False, True, False)),
    ]
    curve = vote_curve(polls, [1, 3])
    assert [each.cost(SAMPLES) for each in curve] == [1, 3]
    assert curve[-1].accuracies == pytest.approx([majority(each) for each in polls])


def test_plots_are_reproducible(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    points = [*LINE, point("self_refine", "max_rounds=2", [1.0, 1, 1, 0], 250)]
    panels = [plots.Panel(title="sums", unit=DECODE, points=points, ceiling=0.9)] * 2
    png, svg = plots.draw(panels, "non-inferiority margin 2 points", tmp_path / "a" / "frontier")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text("utf-8")
    for label in ("self_refine", "max_rounds=2", "n=4", "decode tokens per question", "margin 2 points"):  # fmt: skip
        assert label in text
    _, again = plots.draw(panels, "non-inferiority margin 2 points", tmp_path / "b" / "frontier")
    assert again.read_bytes() == svg.read_bytes()
    with pytest.raises(ValueError, match="panels must not be empty"):
        plots.draw([], "", tmp_path / "c")
