"""Scores, selection and cost: worked examples, brute force, and properties of any input."""

from __future__ import annotations

import random
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.lab.evaluation.cost import cost
from secondpass.service.lab.evaluation.records import RunRecord, Tokens
from secondpass.service.lab.evaluation.scores import aurc, auroc, ece, risk_coverage
from secondpass.service.lab.evaluation.selection import balance_score, gap_closed, refinement_gap

ITEMS = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=1)


def unzipped(items: list[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [score for score, _ in items], [right for _, right in items]


@given(ITEMS)
def test_auroc_is_the_share_of_correctly_ordered_pairs(
    items: list[tuple[float, bool]],
) -> None:
    right = [score for score, ok in items if ok]
    wrong = [score for score, ok in items if not ok]
    won = [(a > b) + (a == b) / 2 for a, b in product(right, wrong)]
    expected = sum(won) / len(won) if won else None
    assert auroc(*unzipped(items)) == (None if expected is None else pytest.approx(expected))


@given(ITEMS, st.randoms(use_true_random=False))
def test_metrics_are_independent_of_order_and_within_range(
    items: list[tuple[float, bool]], chance: random.Random
) -> None:
    other = chance.sample(items, len(items))
    for figure in (auroc, ece, aurc):
        value = figure(*unzipped(items))
        assert figure(*unzipped(other)) == (None if value is None else pytest.approx(value))
        assert value is None or 0 <= value <= 1
    assert risk_coverage(*unzipped(other)) == [
        pytest.approx(point) for point in risk_coverage(*unzipped(items))
    ]


@given(ITEMS)
def test_auroc_depends_on_ranks_and_is_mirrored_by_the_sign(
    items: list[tuple[float, bool]],
) -> None:
    scores, correct = unzipped(items)
    value = auroc(scores, correct)
    assert auroc([3 * s - 7 for s in scores], correct) == value
    if value is not None:
        assert auroc([-s for s in scores], correct) == pytest.approx(1 - value)


def test_the_risk_of_ties_is_that_of_a_random_order() -> None:
    correct = [True, False, False]
    orders = [[not ok for ok in order] for order in permutations(correct)]
    points = risk_coverage([0.5] * 3, correct)
    for taken, (coverage, risk) in enumerate(points, 1):
        assert coverage == taken / 3
        assert risk == pytest.approx(sum(sum(o[:taken]) / taken for o in orders) / len(orders))


def test_perfect_and_inverted_scores() -> None:
    correct = [True, True, False]
    assert auroc([3, 2, 1], correct) == 1
    assert auroc([1, 2, 3], correct) == 0
    assert [risk for _, risk in risk_coverage([3, 2, 1], correct)] == [0, 0, pytest.approx(1 / 3)]
    assert aurc([3, 2, 1], correct) == pytest.approx(1 / 9)
    assert aurc([1, 2, 3], correct) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_ece_of_a_worked_example() -> None:
    # (.9, 1]: two items of .95, one right: |1 - 1.9|; (.2, .3]: .25 and .3, both wrong: .55; 0 is in the first bin.
    confidences = [0.95, 0.95, 0.25, 0.3, 0.0]
    correct = [True, False, False, False, False]
    assert ece(confidences, correct) == pytest.approx((0.9 + 0.55 + 0) / 5)
    assert ece([1.0, 0.0], [True, False]) == 0
    assert ece([1.0, 0.0], [False, True]) == 1
    assert ece([0.5, 0.5], [True, False]) == 0


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    for tenth in range(1, 10):
        # Were they in one bin, their gaps would cancel.
        edge = tenth / 10
        assert ece([edge, edge + 1e-9], [True, False]) == pytest.approx(0.5)


def test_bad_scores_are_named() -> None:
    with pytest.raises(ValueError, match=r"from 0 to 1, not 1\.5"):
        ece([1.5], [True])
    with pytest.raises(ValueError, match="2 scores for 1 items"):
        auroc([1, 2], [True])
    with pytest.raises(ValueError, match="NaN"):
        aurc([float("nan")], [True])
    assert ece([], []) is auroc([], []) is aurc([], []) is None


def test_gap_to_the_oracle() -> None:
    assert gap_closed(0.5, 0.4, 0.8) == pytest.approx(0.25)
    assert gap_closed(0.3, 0.4, 0.8) == pytest.approx(-0.25)
    assert gap_closed(0.8, 0.8, 0.8) is None
    assert refinement_gap(0.5, 0.4) == pytest.approx(0.1)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_vote_closes_none_of_the_gap_and_the_oracle_all(a: float, b: float) -> None:
    vote, oracle = sorted((a, b))
    assert gap_closed(vote, vote, oracle) == (0 if vote < oracle else None)
    assert gap_closed(oracle, vote, oracle) == (1 if vote < oracle else None)


def test_balance_score_of_worked_examples() -> None:
    assert balance_score([(8, 8)]) == 1
    assert balance_score([(16, 16), (4, 8), (0, 5), (0, 0)]) == (1 + 0.25) / 4
    assert balance_score([]) is None
    with pytest.raises(ValueError, match=r"from 0 to selected \(2\), not 3"):
        balance_score([(3, 2)])


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1))
def test_balance_score_is_from_0_to_1(pairs: list[tuple[int, int]]) -> None:
    score = balance_score([(min(pair), max(pair)) for pair in pairs])
    assert score is not None
    assert 0 <= score <= 1


def test_cost_of_two_runs() -> None:
    def record(seconds: float, **usage: int) -> RunRecord:
        return RunRecord(question="q", strategy="s", correct=True, seconds=seconds, usage=Tokens(**usage))  # fmt: skip

    made = cost([record(1, decode=10, prompt=8, cached=3), record(3, decode=20, wasted=4)])
    assert (made.decode, made.uncached, made.wasted) == (15, 2.5, 2)
    assert (made.p50, made.p95, made.seconds) == pytest.approx((2, 2.9, 2))
    with pytest.raises(ValueError, match="records must not be empty"):
        cost([])
