"""Replayed votes: worked examples and properties of any poll and rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.lab.evaluation.votes import (
    Poll,
    any_correct,
    majority,
    replay_votes,
    single,
)
from secondpass.strategies.voting.stopping import (
    AdaptiveRule,
    NoEarlyStopping,
    StoppingRule,
    UnbeatableLead,
    WindowRule,
)


def poll(classes: list[int | None], right: int | None = 0) -> Poll:
    """Return a poll in which class `right` is correct."""
    return Poll(
        question="q",
        classes=tuple(classes),
        correct=tuple(each is not None and each == right for each in classes),
    )


POLLS = st.integers(1, 8).flatmap(
    lambda n: st.lists(
        st.lists(st.none() | st.integers(0, 3), min_size=n, max_size=n).map(poll), min_size=1, max_size=5
    )
)  # fmt: skip
RULES = st.sampled_from(
    [NoEarlyStopping(), AdaptiveRule(0.85), AdaptiveRule(0.95), WindowRule(2), UnbeatableLead()]
)


def test_ties_share_and_a_missing_answer_is_wrong() -> None:
    assert majority(poll([0, 0, 1])) == 1
    assert majority(poll([0, 1, 1])) == 0
    assert majority(poll([0, 0, 1, 1, None, None, None])) == 0.5
    assert majority(poll([0, 1, 2])) == pytest.approx(1 / 3)
    assert majority(poll([None, None])) == 0
    assert (single(poll([0, 1, None, 0])), any_correct(poll([1, 0])), any_correct(poll([1, None]))) == (0.5, 1, 0)  # fmt: skip


@given(POLLS)
def test_one_sample_is_single_and_all_samples_are_the_majority(polls: list[Poll]) -> None:
    everything = replay_votes(polls)
    assert everything.accuracies == pytest.approx([majority(each) for each in polls])
    assert everything.share_used == 1
    one = replay_votes(polls, n=1, shuffles=400)
    assert one.accuracies == pytest.approx([single(each) for each in polls], abs=0.15)


@given(POLLS, RULES)
def test_no_rule_exceeds_the_oracle_or_the_available_samples(
    polls: list[Poll], rule: StoppingRule
) -> None:
    made = replay_votes(polls, rule)
    for accuracy, drawn, each in zip(made.accuracies, made.drawn, polls, strict=True):
        assert 0 <= accuracy <= any_correct(each)
        assert 1 <= drawn <= len(each.classes)
    assert made == replay_votes(polls, rule), "a seed gives the same shuffles"


@given(POLLS)
def test_a_safe_lead_never_changes_the_result(polls: list[Poll]) -> None:
    assert replay_votes(polls, UnbeatableLead()).accuracies == pytest.approx(
        [majority(p) for p in polls]
    )


def test_a_unanimous_poll_stops_after_the_number_in_the_paper() -> None:
    made = replay_votes([poll([0] * 10)], AdaptiveRule(0.95))
    assert (made.samples, made.share_used, made.accuracy) == (4, 0.4, 1)
    assert replay_votes([poll([0] * 10)], WindowRule(5)).samples == 5


def test_a_sample_without_an_answer_is_drawn_but_does_not_vote() -> None:
    assert replay_votes([poll([None] * 10)], AdaptiveRule(0.95)).samples == 10
    half = replay_votes([poll([0] * 20 + [None] * 20)], AdaptiveRule(0.95), shuffles=200)
    assert 6.5 < half.samples < 9.5, "about twice the four samples needed"


def test_invalid_polls_are_rejected() -> None:
    with pytest.raises(ValueError, match="of one size"):
        replay_votes([poll([0]), poll([0, 1])])
    with pytest.raises(ValueError, match="of one size"):
        replay_votes([])
    with pytest.raises(ValueError, match="n must be from 1 to 2, not 3"):
        replay_votes([poll([0, 1])], n=3)
    with pytest.raises(ValueError, match="q: 1 classes, 0 grades"):
        Poll(question="q", classes=(0,), correct=())
