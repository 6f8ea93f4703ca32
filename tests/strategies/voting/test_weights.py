"""Weighted votes, calibration and preferences, compared with the plain vote and brute force."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.calibration import fit_temperature
from secondpass.strategies.api.judgements import MARGIN, Judgement, preference_of
from secondpass.strategies.api.ranking import (
    calibrated,
    log_odds,
    mean_log_odds,
    probability_of,
)
from secondpass.strategies.api.values import Candidate
from secondpass.strategies.voting.stopping import UnbeatableLead
from secondpass.strategies.voting.vote import Vote, WeightedVote

Cast = tuple[int | None, float | None]

WEIGHTS = st.one_of(st.none(), st.floats(0, 1e6, allow_subnormal=False))
CAST = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 3)), WEIGHTS), min_size=1, max_size=12
)
PROBABILITY = st.floats(0, 1)


def candidate(position: int, ballot: int | None) -> Candidate:
    return Candidate(text=f"text {position}", answer=None if ballot is None else str(ballot))


def plain(cast: list[Cast]) -> Vote:
    vote = Vote(n=len(cast))
    for position, (ballot, _) in enumerate(cast):
        vote.add(candidate(position, ballot), ballot)
    return vote


def weighted(cast: list[Cast], trust: float = 1.0) -> WeightedVote:
    vote = WeightedVote(n=len(cast), trust=trust)
    for position, (ballot, weight) in enumerate(cast):
        vote.add(candidate(position, ballot), ballot, weight)
    return vote


@given(CAST)
def test_without_trust_it_always_equals_the_plain_vote(cast: list[Cast]) -> None:
    assert weighted(cast, trust=0).leader == plain(cast).leader


@given(CAST, WEIGHTS, st.floats(0, 1))
def test_with_equal_weights_it_always_equals_the_plain_vote(
    cast: list[Cast], weight: float | None, trust: float
) -> None:
    equal = [(ballot, weight) for ballot, _ in cast]
    assert weighted(equal, trust).leader == plain(equal).leader


@given(CAST, st.floats(0, 1), st.randoms(use_true_random=False))
def test_the_order_of_ballots_never_matters_except_for_ties(
    cast: list[Cast], trust: float, chance: object
) -> None:
    shuffled = list(cast)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = weighted(cast, trust).leader, weighted(shuffled, trust).leader
    assert one.score == other.score
    if one.score is not None and one.score > 0.5:
        assert one.answer == other.answer


@given(CAST)
def test_the_score_of_the_leader_is_always_a_share(cast: list[Cast]) -> None:
    score = weighted(cast).leader.score
    assert score is None or 0 < score <= 1


def test_a_heavy_minority_wins_if_weights_are_trusted() -> None:
    cast: list[Cast] = [(0, 0.1), (0, 0.1), (1, 0.9)]
    assert weighted(cast).leader.answer == "1"
    assert weighted(cast).leader.score_kind == "weighted_vote_share"
    assert weighted(cast, trust=0.2).leader.answer == "0"


def test_a_ballot_without_a_weight_has_the_mean_weight() -> None:
    assert weighted([(0, 1.0), (1, 3.0), (1, None)]).leader.score == pytest.approx(5 / 6)


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_negative_or_infinite_weight_is_an_error(weight: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        WeightedVote(n=1).add(candidate(0, 0), 0, weight)


def test_trust_is_a_share() -> None:
    with pytest.raises(ValueError, match="must be 0 to 1"):
        WeightedVote(n=1, trust=1.5)


def test_a_weighted_vote_is_not_decided_while_weight_and_count_disagree() -> None:
    vote = WeightedVote(n=4, rule=UnbeatableLead())
    for position, (ballot, weight) in enumerate([(0, 0.1), (0, 0.1), (0, 0.1)]):
        vote.add(candidate(position, ballot), ballot, weight)
    assert vote.is_decided
    vote = weighted([(0, 0.1), (0, 0.1), (0, 0.1), (1, 9.0)])
    vote.rule = UnbeatableLead()
    assert not vote.is_decided


@given(CAST)
def test_leaders_are_distinct_classes_and_the_first_one_leads(cast: list[Cast]) -> None:
    vote = plain(cast)
    leaders = vote.leaders(2)
    assert len({leader.answer for leader in leaders}) == len(leaders)
    assert vote.share == (vote.leader.score if leaders else None)
    if leaders:
        assert leaders[0].answer == vote.leader.answer


@given(PROBABILITY, st.floats(0.05, 20))
def test_calibration_keeps_the_order_and_a_half(p: float, temperature: float) -> None:
    assert calibrated(0.5, temperature) == pytest.approx(0.5)
    assert (calibrated(p, temperature) > 0.5) == (p > 0.5) or p == pytest.approx(0.5)
    assert probability_of(log_odds(p)) == pytest.approx(p, abs=2e-6)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_log_odds_require_probabilities(p: float) -> None:
    with pytest.raises(ValueError, match="must be 0 to 1"):
        log_odds(p)
    with pytest.raises(ValueError, match="must not be empty"):
        mean_log_odds([])


@pytest.mark.parametrize(("temperature", "offset"), [(0.5, 0.0), (2.0, 1.0), (4.0, -2.0)])
def test_the_fit_recovers_the_temperature_of_the_data(temperature: float, offset: float) -> None:
    scores: list[float] = []
    are_right: list[bool] = []
    for step in range(-30, 31):
        truth = probability_of(step / 10)
        score = probability_of(step / 10 * temperature + offset)
        right = round(200 * truth)
        scores += [score] * 200
        are_right += [True] * right + [False] * (200 - right)
    found, shift = fit_temperature(scores, are_right)
    assert found == pytest.approx(temperature, rel=0.05)
    assert shift == pytest.approx(offset, abs=0.1)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=12))
def test_the_mean_of_a_fit_is_always_the_share_of_right_drafts(
    pairs: list[tuple[float, bool]],
) -> None:
    scores, are_right = [s for s, _ in pairs], [is_right for _, is_right in pairs]
    if len(set(are_right)) < 2:
        with pytest.raises(ValueError, match="correct and incorrect drafts"):
            fit_temperature(scores, are_right)
        return
    temperature, offset = fit_temperature(scores, are_right)
    mean = sum(calibrated(s, temperature, offset) for s in scores) / len(scores)
    assert mean == pytest.approx(sum(are_right) / len(are_right), abs=1e-3)


def judgement(verdict: str, p: float | None = None) -> Judgement:
    read = None if p is None else {"A": p, "B": 1 - p}
    return Judgement(verdict=verdict, how="text" if p is None else "labels", probabilities=read)


@given(PROBABILITY, PROBABILITY)
def test_swapping_the_candidates_always_swaps_the_preference(p: float, q: float) -> None:
    one = preference_of(judgement("A", p), judgement("A", q))
    other = preference_of(judgement("A", q), judgement("A", p))
    assert {one.winner, other.winner} in ({None}, {"a", "b"})
    assert one.margin == pytest.approx(-(other.margin or 0), abs=1e-6)
    assert (one.winner is None) == (abs(one.margin or 0) <= MARGIN)


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [("A", "B", "a"), ("B", "A", "b"), ("A", "A", None), ("B", "B", None)],
)
def test_verdicts_without_probabilities_must_agree(
    first: str, second: str, winner: str | None
) -> None:
    assert preference_of(judgement(first), judgement(second)).winner == winner
