"""Turn metrics: worked examples and the identities stated in the papers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.lab.evaluation.records import Turn
from secondpass.service.lab.evaluation.turns import (
    Change,
    VerdictCounts,
    accuracy_by_turn,
    change,
    count_verdicts,
    decompose,
    feedback_resistance,
)

CHAINS = st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=12)
PAIRS = st.lists(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=5),
    min_size=1,
    max_size=12,
)


def turn(*, correct: bool, accepted: bool | None = None) -> Turn:
    return Turn(correct=correct, accepted=accepted)


def test_a_short_chain_keeps_its_last_answer() -> None:
    chains = [[True], [False, True], [True, True, False], [False]]
    assert accuracy_by_turn(chains) == [0.5, 0.75, 0.5]
    assert change(chains) == Change(before=0.5, after=0.5, fixed=0.25, broken=0.25)
    assert change(chains, 0, 1) == Change(before=0.5, after=0.75, fixed=0.25, broken=0)


@given(CHAINS)
def test_fixed_minus_broken_is_the_difference(chains: list[list[bool]]) -> None:
    made = change(chains)
    assert made.after - made.before == pytest.approx(made.fixed - made.broken)
    by_turn = accuracy_by_turn(chains)
    assert all(0 <= share <= 1 for share in by_turn)
    assert (by_turn[0], by_turn[-1]) == (made.before, made.after)


@pytest.mark.parametrize("chains", [[], [[True], []]])
def test_empty_chains_are_rejected(chains: list[list[bool]]) -> None:
    with pytest.raises(ValueError, match="at least one turn"):
        accuracy_by_turn(chains)


def test_decomposition_of_ten_answers() -> None:
    # 5 right at first, 4 stay; 5 wrong at first, 2 are put right: acc2 = .5 * .8 + .5 * .4.
    pairs = [(True, True)] * 4 + [(True, False)] + [(False, True)] * 2 + [(False, False)] * 3
    made = decompose([[pair] for pair in pairs])
    assert (made.acc1, made.acc2) == pytest.approx((0.5, 0.6))
    assert (made.cl, made.cs) == pytest.approx((0.8, 0.4))
    assert made.rss == pytest.approx((0.6 - 0.25) / 0.5)


def test_questions_have_equal_weight() -> None:
    # P_a = .5 and 1; P_a P_b = .5 and 1; (1 - P_a) P_c = 0 and 0.
    made = decompose([[(True, True), (False, False)], [(True, True)]])
    assert (made.acc1, made.acc2, made.cl, made.cs) == (0.75, 0.75, 1.0, 0.0)


@pytest.mark.parametrize(
    ("pairs", "cl", "cs"),
    [([(True, True), (True, False)], 0.5, None), ([(False, True), (False, False)], None, 0.5)],
)
def test_rss_is_undefined_at_the_extremes(
    pairs: list[tuple[bool, bool]], cl: float | None, cs: float | None
) -> None:
    made = decompose([[pair] for pair in pairs])
    assert (made.cl, made.cs, made.rss) == (cl, cs, None)


@given(PAIRS)
def test_second_accuracy_follows_from_cl_and_cs(pairs: list[list[tuple[bool, bool]]]) -> None:
    made = decompose(pairs)
    kept = 0 if made.cl is None else made.acc1 * made.cl
    fixed = 0 if made.cs is None else (1 - made.acc1) * made.cs
    assert made.acc2 == pytest.approx(kept + fixed)
    assert all(level is None or -1e-9 <= level <= 1 + 1e-9 for level in (made.cl, made.cs))
    assert (made.rss is None) == (made.cl is None or made.cs is None)


@given(PAIRS)
def test_rss_is_one_half_without_changes(pairs: list[list[tuple[bool, bool]]]) -> None:
    still = decompose([[(a, a) for a, _ in question] for question in pairs])
    assert still.rss is None or still.rss == pytest.approx(0.5)


def test_verdicts_are_counted_by_correctness() -> None:
    made = count_verdicts(
        [turn(correct=True, accepted=True)] * 3
        + [turn(correct=False, accepted=True)]
        + [turn(correct=True, accepted=False)] * 2
        + [turn(correct=False, accepted=False)] * 4
        + [turn(correct=True)]
    )
    assert made == VerdictCounts(
        right_accepted=3, wrong_accepted=1, right_rejected=2, wrong_rejected=4
    )
    assert made.accuracy == 7 / 10
    assert (made.precision, made.recall) == (4 / 6, 4 / 5)
    assert (made.accept_precision, made.accept_recall) == (3 / 4, 3 / 5)


def test_shares_are_none_without_verdicts() -> None:
    none = count_verdicts([turn(correct=True)])
    shares = (none.accuracy, none.precision, none.recall, none.accept_precision, none.accept_recall)
    assert shares == (None,) * 5


def test_resistance_is_a_lasting_error_despite_correct_feedback() -> None:
    wrong = turn(correct=False)
    resisted = [turn(correct=False, accepted=False)] * 2 + [wrong]
    misled = [turn(correct=True, accepted=False), wrong]
    let_through = [turn(correct=False, accepted=True), wrong]
    solved = [turn(correct=False, accepted=False), turn(correct=True)]
    unjudged = [turn(correct=False), wrong]
    chains = [resisted, misled, let_through, solved, unjudged, [wrong]]
    assert feedback_resistance(chains) == 1 / 3
    assert feedback_resistance([resisted, solved]) == 1
    assert feedback_resistance([solved, unjudged, [wrong]]) is None
