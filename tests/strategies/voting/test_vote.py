"""Votes and stopping rules, compared with the papers' tables and brute force."""

from __future__ import annotations

import itertools
import random
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secondpass.strategies.api.values import Candidate
from secondpass.strategies.voting.medoid import Medoid
from secondpass.strategies.voting.stopping import (
    AdaptiveRule,
    NoEarlyStopping,
    StoppingRule,
    UnbeatableLead,
    WindowRule,
    leading_counts,
    majority_probability,
)
from secondpass.strategies.voting.vote import Vote, WeightedVote

T = TypeVar("T")
Numbered = tuple[int, tuple[int | None, float | None]]
"""Index of a candidate, with its ballot and weight."""

BALLOTS = st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=14)


def candidate(text: str) -> Candidate:
    return Candidate(text=text, answer=text)


def test_the_beta_rule_stops_at_the_counts_of_the_paper() -> None:
    rule = AdaptiveRule(0.95)
    needed = [4, 6, 8, 9, 11, 12, 14, 15, 17]
    for against, expected in enumerate(needed):
        first = next(
            a
            for a in itertools.count(against + 1)
            if rule.is_decided([0] * a + [1] * against, remaining=99)
        )
        assert first == expected, f"with {against} against"


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_majority_probability_is_always_symmetric(a: int, b: int) -> None:
    assert 0 < majority_probability(a, b) < 1
    assert majority_probability(a, b) + majority_probability(b, a) == pytest.approx(1)
    assert majority_probability(a, a) == 0.5


def test_the_majority_probability_agrees_with_samples_of_the_posterior() -> None:
    chance = random.Random(0)
    draws = 20_000
    hits = sum(chance.betavariate(6, 3) > 0.5 for _ in range(draws))
    assert majority_probability(5, 2) == pytest.approx(hits / draws, abs=0.01)


def test_a_window_must_be_unanimous_and_windows_do_not_overlap() -> None:
    rule = WindowRule(3)
    assert rule.is_decided([0, 1, 2, 5, 5, 5], remaining=3)
    assert not rule.is_decided([0, 5, 5, 5], remaining=3)
    assert not rule.is_decided([5, 5], remaining=3)
    assert not rule.is_decided([], remaining=3)


def test_a_sample_without_an_answer_satisfies_no_rule() -> None:
    assert not WindowRule(3).is_decided([None, None, None], remaining=3)
    assert not AdaptiveRule().is_decided([None] * 20, remaining=3)
    assert leading_counts([None, 1, None, 1, 0]) == (2, 1)


@given(BALLOTS, st.integers(0, 4), st.randoms())
def test_a_safe_lead_is_never_overtaken(
    ballots: list[int | None], remaining: int, chance: random.Random
) -> None:
    if not UnbeatableLead().is_decided(ballots, remaining):
        return
    winner = _winner(ballots)
    for _ in range(20):
        rest = [chance.choice([None, 0, 1, 2, 3, 4]) for _ in range(remaining)]
        assert _winner([*ballots, *rest]) == winner


@given(BALLOTS, st.integers(0, 6))
def test_a_vote_is_decided_as_soon_as_the_lead_is_safe(
    ballots: list[int | None], remaining: int
) -> None:
    first, second = leading_counts(ballots)
    challenger = second + remaining
    assert UnbeatableLead().is_decided(ballots, remaining) == (first > challenger)


@given(BALLOTS)
def test_the_leader_is_always_the_mode_and_ties_go_to_the_lower_index(
    ballots: list[int | None],
) -> None:
    vote = Vote(n=20)
    for i, ballot in enumerate(ballots):
        vote.add(Candidate(text=f"{i}:{ballot}", index=i), ballot)
        leader = vote.leader
        seen = ballots[: i + 1]
        answered = [b for b in seen if b is not None]
        winner = _winner(seen)
        if winner is not None:
            assert leader.text.endswith(f":{winner}")
            assert leader.score == answered.count(winner) / len(answered)
        else:
            assert leader.score is None


@st.composite
def in_two_orders(
    draw: st.DrawFn, of: st.SearchStrategy[T]
) -> tuple[list[tuple[int, T]], list[tuple[int, T]]]:
    """Draw numbered items, and a permutation of them."""
    items = draw(st.lists(of, min_size=1, max_size=9))
    numbered = list(enumerate(items))
    return numbered, draw(st.permutations(numbered))


CASTS = st.tuples(st.one_of(st.none(), st.integers(0, 2)), st.sampled_from([None, 0.1, 0.2, 0.3]))


@given(in_two_orders(CASTS), st.sampled_from([0.0, 0.3, 1.0]))
def test_the_order_of_arrival_never_changes_the_elected_candidate(
    orders: tuple[list[Numbered], list[Numbered]], trust: float
) -> None:
    votes = []
    for order in orders:
        vote = WeightedVote(n=9, trust=trust)
        for index, (ballot, weight) in order:
            vote.add(Candidate(text=f"the text {index % 3}", index=index), ballot, weight)
        votes.append(vote)
    one, other = votes
    assert one.leader == other.leader
    assert one.leaders(3) == other.leaders(3)


EQUAL = list(enumerate(["babba", "aaabba", "abaab", "bbbaab"]))
"""Texts of which two are tied, which naively rounded sums do not always show."""


@given(in_two_orders(st.text("ab c", max_size=9)))
@example((EQUAL, [EQUAL[i] for i in (3, 1, 0, 2)]))
@example((EQUAL, [EQUAL[i] for i in (2, 3, 0, 1)]))
def test_the_order_of_arrival_never_changes_the_medoid(
    orders: tuple[list[tuple[int, str]], list[tuple[int, str]]],
) -> None:
    one, other = Medoid(), Medoid()
    for medoid, order in zip((one, other), orders, strict=True):
        for index, text in order:
            medoid.add(Candidate(text=text, index=index))
    assert one.leader == other.leader


def test_a_class_is_represented_by_its_lowest_index_and_equal_indices_by_the_first() -> None:
    vote = Vote(n=4)
    for text, index, ballot in (("b", 1, 7), ("a", 0, 7), ("again", 0, 7), ("other", 0, 3)):
        vote.add(Candidate(text=text, index=index), ballot)
    assert [each.text for each in vote.leaders(2)] == ["a", "other"]


def test_a_vote_is_decided_once_its_rule_is_satisfied() -> None:
    rules: list[tuple[StoppingRule, int]] = [
        (AdaptiveRule(), 4),
        (WindowRule(5), 5),
        (UnbeatableLead(), 5),
        (NoEarlyStopping(), 8),
    ]
    for rule, expected in rules:
        vote = Vote(n=8, rule=rule)
        drawn = 0
        while drawn < 8 and not vote.is_decided:
            vote.add(candidate("a"), 0)
            drawn += 1
        assert drawn == expected, rule


def test_the_medoid_is_the_text_most_similar_to_the_others() -> None:
    medoid = Medoid()
    for text in ("the cat sat on a mat", "a cat sat on the mat", "the cat sat on the mat", "Rome"):
        medoid.add(candidate(text))
    assert medoid.leader.text == "the cat sat on the mat"


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_the_medoid_agrees_with_its_definition(texts: list[str]) -> None:
    medoid, pairwise = Medoid(), {}
    for text in texts:
        medoid.add(candidate(text))
    for i, j in itertools.permutations(range(len(texts)), 2):
        pair = Medoid()
        pair.add(candidate(texts[i]))
        pair.add(candidate(texts[j]))
        pairwise[i, j] = pair._similarities[0][0]
    totals = [sum(pairwise[i, j] for j in range(len(texts)) if j != i) for i in range(len(texts))]
    assert totals[texts.index(medoid.leader.text)] == pytest.approx(max(totals))


def truncated(text: str, answer: str | None = None) -> Candidate:
    return Candidate(text=text, answer=answer, finish_reason="length")


@given(st.lists(st.sampled_from([truncated("The cat sat on"), candidate("Rome")]), min_size=1))
def test_a_truncated_text_never_leads_while_there_is_a_finished_one(
    candidates: list[Candidate],
) -> None:
    vote = Vote(n=len(candidates))
    for each in candidates:
        vote.add(each, None)
    assert vote.leader.is_unfinished == all(each.is_unfinished for each in candidates)


def test_a_truncated_text_with_a_finished_answer_votes() -> None:
    vote = Vote(n=3)
    vote.add(candidate("41"), 0)
    vote.add(truncated("So \\boxed{42}. That", "42"), 1)
    vote.add(truncated("So \\boxed{42}. It", "42"), 1)
    assert vote.leader.answer == "42"


def test_a_vote_without_samples_has_no_leader() -> None:
    with pytest.raises(ValueError, match="empty"):
        _ = Vote(n=3).leader


def _winner(ballots: list[int | None]) -> int | None:
    answered: list[int] = [ballot for ballot in ballots if ballot is not None]
    ranked = sorted(set(answered), key=lambda b: (-answered.count(b), answered.index(b)))
    return ranked[0] if ranked else None


class MovableBallot(int):
    """A ballot whose class a later draft changes, like the ids of `Run.class_of`."""

    now: int

    def __eq__(self, other: object) -> bool:
        return self.now == (other.now if isinstance(other, MovableBallot) else other)

    def __hash__(self) -> int:
        return hash(self.now)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=10))
def test_a_vote_always_counts_the_classes_of_the_last_draft(moves: list[tuple[int, int]]) -> None:
    moved, final = WeightedVote(n=len(moves)), WeightedVote(n=len(moves))
    ballots = []
    for index, (before, after) in enumerate(moves):
        ballot = MovableBallot(before)
        ballot.now = before
        ballots.append((ballot, after))
        moved.add(Candidate(text=str(index), answer=str(index), index=index), ballot)
        assert moved.leader.index is not None
        final.add(Candidate(text=str(index), answer=str(index), index=index), after)
    for ballot, after in ballots:
        ballot.now = after
    assert moved.leader == final.leader
    assert moved.share == final.share
    assert moved.leaders(4) == final.leaders(4)
    for rule in (UnbeatableLead(), AdaptiveRule(0.6), WindowRule(2)):
        moved.rule = final.rule = rule
        assert moved.is_decided == final.is_decided
