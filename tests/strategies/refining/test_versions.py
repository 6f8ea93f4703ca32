"""The vote over versions and their verdicts: an unconfirmed answer never wins."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.values import Candidate, Completion
from secondpass.strategies.refining.versions import Version, VersionVerdict, winner


def version(
    chain: int,
    ballot: int | None,
    p_right: float | None = None,
    number: int = 0,
    *,
    is_repeat: bool = False,
    is_external: bool = False,
) -> Version:
    text = f"chain {chain} round {number} says {ballot}"
    return Version(
        chain=chain,
        round=number,
        completion=Completion.of(text),
        candidate=Candidate(
            text=text, answer=None if ballot is None else str(ballot), index=chain + 5 * number
        ),
        ballot=ballot,
        verdict=None
        if p_right is None
        else VersionVerdict(p_right=p_right, is_external=is_external),
        is_repeat=is_repeat,
    )


ballots = st.one_of(st.none(), st.integers(0, 3))
verdicts = st.one_of(st.none(), st.floats(0, 1))
drafts = st.lists(st.tuples(ballots, verdicts), min_size=1, max_size=5)
later = st.lists(st.tuples(st.integers(0, 4), ballots, verdicts, st.booleans()), max_size=8)


@st.composite
def versions(draw: st.DrawFn) -> list[Version]:
    first = [version(i, ballot, p_right) for i, (ballot, p_right) in enumerate(draw(drafts))]
    rounds: Counter[int] = Counter()
    found = list(first)
    for number, ballot, p_right, is_repeat in draw(later):
        chain = number % len(first)
        rounds[chain] += 1
        found.append(version(chain, ballot, p_right, rounds[chain], is_repeat=is_repeat))
    return found


def count(found: list[Version]) -> Counter[int]:
    return Counter(each.ballot for each in found if each.ballot is not None)


def leader(found: list[Version]) -> int | None:
    """Return the leading answer class among the drafts, ties to the earliest."""
    counts = count([each for each in found if each.round == 0])
    return counts.most_common(1)[0][0] if counts else None


def answer_of(found: list[Version], trust: float = 0.0, *, is_hard: bool = False) -> int | None:
    answer = winner(found, trust=trust, is_hard=is_hard).answer
    return None if answer is None else int(answer)


@given(versions())
def test_without_trust_a_change_wins_only_with_more_answers_than_the_drafts_leader(
    found: list[Version],
) -> None:
    before, after = leader(found), answer_of(found)
    if before is not None and after != before:
        assert after is not None
        assert count(found)[after] > count(found)[before]
        assert count(found)[after] > 1


@given(versions())
def test_without_trust_verdicts_change_nothing(found: list[Version]) -> None:
    unjudged = [replace(each, verdict=None, is_repeat=False) for each in found]
    assert answer_of(found) == answer_of(unjudged)


@given(versions(), st.sampled_from([0.5, 1.0]), st.booleans())
def test_the_answer_of_one_retry_never_wins_unless_a_trusted_critic_accepts_it(
    found: list[Version], trust: float, is_hard: bool
) -> None:
    after = answer_of(found, trust, is_hard=is_hard)
    known = {each.ballot for each in found if each.round == 0} - {None}
    if after is not None and known and after not in known and count(found)[after] == 1:
        assert any(each.ballot == after and each.is_accepted for each in found)


@given(versions(), st.floats(0, 1), st.booleans())
def test_the_order_of_versions_never_matters(
    found: list[Version], trust: float, is_hard: bool
) -> None:
    backwards = winner(found[::-1], trust=trust, is_hard=is_hard)
    assert winner(found, trust=trust, is_hard=is_hard) == backwards


@given(versions())
def test_the_hard_filter_counts_all_versions_if_all_are_rejected(found: list[Version]) -> None:
    wrong = [replace(each, verdict=VersionVerdict(p_right=0.1)) for each in found]
    assert answer_of(wrong, is_hard=True) == answer_of([replace(e, verdict=None) for e in found])


@given(versions())
def test_the_hard_filter_never_elects_an_answer_of_rejected_versions_only(
    found: list[Version],
) -> None:
    after = answer_of(found, is_hard=True)
    votes = [e for e in found if e.ballot is not None]
    if after is not None and any(e.is_accepted for e in votes):
        assert any(e.ballot == after and not e.is_rejected for e in votes)


@given(versions(), st.integers(0, 7))
def test_a_version_that_passes_the_tests_always_wins(found: list[Version], number: int) -> None:
    number %= len(found)
    tested = [
        replace(
            each, ballot=i, verdict=VersionVerdict(p_right=float(i == number), is_external=True)
        )
        for i, each in enumerate(found)
    ]
    assert winner(tested, trust=0.0) == replace(
        tested[number].candidate,
        score=winner(tested, trust=0.0).score,
        score_kind=winner(tested, trust=0.0).score_kind,
        why=winner(tested, trust=0.0).why,
    )


def test_only_a_trusted_critic_changes_the_answer_of_a_chain() -> None:
    found = [version(0, 1, 0.1), version(0, 2, 0.9, 1)]
    assert (answer_of(found, 1.0), answer_of(found)) == (2, 1)
    assert answer_of([version(0, 1, 0.1), version(0, 2, None, 1)], 1.0) == 1


def test_an_answer_of_two_retries_is_confirmed() -> None:
    assert answer_of([version(0, 1), version(0, 2, None, 1), version(0, 2, None, 2)]) == 2


def test_ties_go_to_the_leading_answer_of_the_drafts() -> None:
    found = [version(0, 1), version(1, 2), version(2, 2), version(0, 1, None, 1)]
    assert (answer_of(found), winner(found, trust=0.0).index) == (2, 1)


def test_an_answer_of_a_retry_wins_over_drafts_without_an_answer() -> None:
    assert answer_of([version(0, None), version(0, 5, None, 1)]) == 5


def test_a_repeated_answer_weighs_less_if_the_critic_is_trusted() -> None:
    found = [
        version(0, 2, 0.4),
        version(1, 1, 0.6),
        version(0, 2, 0.4, 1, is_repeat=True),
    ]
    assert (answer_of(found, 1.0), answer_of(found, 0.0)) == (1, 2)
    assert answer_of([*found[:2], replace(found[2], is_repeat=False)], 1.0) == 2


def test_in_open_tasks_only_an_accepted_retry_replaces_its_draft() -> None:
    found = [version(0, None, 0.1), version(0, None, 0.9, 1), version(0, None, 0.2, 2)]
    assert winner(found, trust=1.0).text == "chain 0 round 1 says None"
    assert winner(found, trust=0.0).text == "chain 0 round 0 says None"
