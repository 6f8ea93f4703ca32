"""What attempts and verdicts elect: an answer that nothing confirms never wins."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.values import Candidate, Completion
from secondpass.strategies.refining.versions import (
    Attempt,
    Ruling,
    elected,
    loses_numbers,
    scheduled,
    summary,
)


def attempt(
    chain: int,
    ballot: int | None,
    right: float | None = None,
    number: int = 0,
    *,
    is_repeat: bool = False,
    is_external: bool = False,
) -> Attempt:
    text = f"chain {chain} round {number} says {ballot}"
    return Attempt(
        chain=chain,
        round=number,
        completion=Completion(text=text, messages=()),
        candidate=Candidate(text=text, answer=None if ballot is None else str(ballot)),
        ballot=ballot,
        ruling=None if right is None else Ruling(right=right, is_external=is_external),
        is_repeat=is_repeat,
    )


ballots = st.one_of(st.none(), st.integers(0, 3))
verdicts = st.one_of(st.none(), st.floats(0, 1))
drafts = st.lists(st.tuples(ballots, verdicts), min_size=1, max_size=5)
later = st.lists(st.tuples(st.integers(0, 4), ballots, verdicts, st.booleans()), max_size=8)


@st.composite
def attempts(draw: st.DrawFn) -> list[Attempt]:
    first = [attempt(i, ballot, right) for i, (ballot, right) in enumerate(draw(drafts))]
    rounds: Counter[int] = Counter()
    found = list(first)
    for number, ballot, right, is_repeat in draw(later):
        chain = number % len(first)
        rounds[chain] += 1
        found.append(attempt(chain, ballot, right, rounds[chain], is_repeat=is_repeat))
    return found


def count(found: list[Attempt]) -> Counter[int]:
    return Counter(each.ballot for each in found if each.ballot is not None)


def leader(found: list[Attempt]) -> int | None:
    """What the drafts alone say, ties to the earliest."""
    counts = count([each for each in found if each.round == 0])
    return counts.most_common(1)[0][0] if counts else None


def winner(found: list[Attempt], trust: float = 0.0, *, is_hard: bool = False) -> int | None:
    answer = elected(found, trust=trust, is_hard=is_hard).answer
    return None if answer is None else int(answer)


@given(attempts())
def test_without_trust_a_change_wins_only_with_more_answers_than_the_drafts_leader(
    found: list[Attempt],
) -> None:
    before, after = leader(found), winner(found)
    if before is not None and after != before:
        assert after is not None
        assert count(found)[after] > count(found)[before]
        assert count(found)[after] > 1


@given(attempts())
def test_without_trust_verdicts_change_nothing(found: list[Attempt]) -> None:
    unsaid = [replace(each, ruling=None, is_repeat=False) for each in found]
    assert winner(found) == winner(unsaid)


@given(attempts(), st.sampled_from([0.5, 1.0]), st.booleans())
def test_an_answer_of_one_retry_never_wins_unless_a_critic_that_counts_accepts_it(
    found: list[Attempt], trust: float, is_hard: bool
) -> None:
    after = winner(found, trust, is_hard=is_hard)
    known = {each.ballot for each in found if each.round == 0} - {None}
    if after is not None and known and after not in known and count(found)[after] == 1:
        assert any(each.ballot == after and each.is_accepted for each in found)


@given(attempts(), st.floats(0, 1), st.booleans())
def test_the_order_in_which_attempts_came_never_matters(
    found: list[Attempt], trust: float, is_hard: bool
) -> None:
    backwards = elected(found[::-1], trust=trust, is_hard=is_hard)
    assert elected(found, trust=trust, is_hard=is_hard) == backwards


@given(attempts())
def test_the_hard_filter_falls_back_to_all_where_all_are_called_wrong(found: list[Attempt]) -> None:
    wrong = [replace(each, ruling=Ruling(right=0.1)) for each in found]
    assert winner(wrong, is_hard=True) == winner([replace(e, ruling=None) for e in found])


@given(attempts())
def test_the_hard_filter_never_elects_what_only_rejected_attempts_answer(
    found: list[Attempt],
) -> None:
    after = winner(found, is_hard=True)
    votes = [e for e in found if e.ballot is not None]
    if after is not None and any(e.is_accepted for e in votes):
        assert any(e.ballot == after and not e.is_rejected for e in votes)


@given(attempts(), st.integers(0, 7))
def test_what_the_tests_pass_always_wins(found: list[Attempt], number: int) -> None:
    number %= len(found)
    tested = [
        replace(each, ballot=i, ruling=Ruling(right=float(i == number), is_external=True))
        for i, each in enumerate(found)
    ]
    assert elected(tested, trust=0.0) == replace(
        tested[number].candidate,
        score=elected(tested, trust=0.0).score,
        score_kind=elected(tested, trust=0.0).score_kind,
        why=elected(tested, trust=0.0).why,
    )


def test_a_trusted_critic_turns_a_chain_and_an_untrusted_one_does_not() -> None:
    found = [attempt(0, 1, 0.1), attempt(0, 2, 0.9, 1)]
    assert (winner(found, 1.0), winner(found)) == (2, 1)
    assert winner([attempt(0, 1, 0.1), attempt(0, 2, None, 1)], 1.0) == 1


def test_an_answer_that_two_retries_give_is_confirmed() -> None:
    assert winner([attempt(0, 1), attempt(0, 2, None, 1), attempt(0, 2, None, 2)]) == 2


def test_any_answer_is_better_than_none() -> None:
    assert winner([attempt(0, None), attempt(0, 5, None, 1)]) == 5


def test_a_repeated_answer_weighs_less_as_far_as_the_critic_is_trusted() -> None:
    found = [
        attempt(0, 2, 0.4),
        attempt(1, 1, 0.6),
        attempt(0, 2, 0.4, 1, is_repeat=True),
    ]
    assert (winner(found, 1.0), winner(found, 0.0)) == (1, 2)
    assert winner([*found[:2], replace(found[2], is_repeat=False)], 1.0) == 2


def test_in_open_tasks_only_an_accepted_retry_takes_its_drafts_place() -> None:
    found = [attempt(0, None, 0.1), attempt(0, None, 0.9, 1), attempt(0, None, 0.2, 2)]
    assert elected(found, trust=1.0).text == "chain 0 round 1 says None"
    assert elected(found, trust=0.0).text == "chain 0 round 0 says None"


@given(st.floats(0, 1.2), st.integers(1, 8))
def test_the_schedule_rises_to_its_end_and_never_falls(temperature: float, number: int) -> None:
    assert temperature <= scheduled(temperature, number) <= 1.2
    assert scheduled(temperature, number) <= scheduled(temperature, number + 1)
    assert scheduled(0.7, 2) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("retry", "others", "is_lost"),
    [
        ("so 7", ("1 2 3 4 5", "1 2 3 4"), True),
        ("6 and 7", ("1 2 3 4 5", "1 2 3 4"), False),
        ("so 7", ("1 2 3", "1 2 3 4 5 6"), False),
        ("1,000.5", ("1.5 2 3 4", "1.5 2 3 4"), True),
        ("", ("1", "1"), False),
    ],
)
def test_a_retry_with_far_fewer_numbers_than_every_attempt_before_it_is_one(
    retry: str, others: tuple[str, str], is_lost: bool
) -> None:
    assert loses_numbers(retry, *others) is is_lost


@given(st.lists(st.text(max_size=30), max_size=4), st.text(min_size=1, max_size=20))
def test_a_summary_never_repeats_the_whole_attempt(issues: list[str], attempted: str) -> None:
    whole = " ".join(attempted.split())
    if whole and whole not in "Something in it is wrong.":
        issues = [*issues, f"It says: {attempted}!"]
        for line in summary(issues, attempted).splitlines():
            assert whole not in " ".join(line.split())
    assert summary(issues, attempted)
