"""Schedules of triggers, answers of chains, and safe points of texts."""

from __future__ import annotations

import math
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.values import Candidate
from secondpass.strategies.continuation.safe_points import is_safe_end, last_safe_point
from secondpass.strategies.continuation.triggers import (
    MIN_GROWTH,
    AnswerTrail,
    ChainAnswer,
    Schedule,
    chain_answers,
)

BALLOT = st.sampled_from([None, 0, 1, 2])
ANSWERS = st.lists(st.tuples(BALLOT, st.booleans()), min_size=1, max_size=6)


def trail_of(answers: list[tuple[int | None, bool]]) -> AnswerTrail:
    trail = AnswerTrail()
    for position, (ballot, is_forced) in enumerate(answers):
        trail.add(ChainAnswer(Candidate(text="t", index=position), ballot, is_forced=is_forced))
    return trail


# -- answers of chains ------------------------------------------------------------------------------


@given(ANSWERS, st.sets(st.integers(0, 2)))
def test_the_opening_never_gives_way_to_an_unconfirmed_answer(
    answers: list[tuple[int | None, bool]], confirmed: set[int]
) -> None:
    best = trail_of(answers).best(confirmed)
    ballots = [ballot for ballot, _ in answers]
    unforced = [ballot for ballot, is_forced in answers if ballot is not None and not is_forced]
    assert ballots[best.candidate.index] == best.ballot
    if unforced and best.ballot != unforced[0]:
        assert ballots.count(best.ballot) >= 2 or best.ballot in confirmed


@given(ANSWERS, ANSWERS)
def test_another_chain_confirms_only_its_opening(
    one: list[tuple[int | None, bool]], other: list[tuple[int | None, bool]]
) -> None:
    chains = [trail_of(one), trail_of(other)]
    opening = chains[1].opening
    expected = chains[0].best(() if opening is None or opening.ballot is None else {opening.ballot})
    assert chain_answers(chains)[0] == expected


def test_an_answer_that_was_not_forced_outranks_a_forced_one() -> None:
    assert trail_of([(1, True), (2, False)]).best().ballot == 2
    assert trail_of([(1, True), (2, True), (1, False)]).best().ballot == 1
    assert trail_of([(1, True), (2, True)]).best().ballot == 2
    assert trail_of([(1, True), (1, False)]).best().is_forced is False


# -- schedules -------------------------------------------------------------------------------

SCHEDULES = st.tuples(st.integers(1, 8), st.integers(16, 2000), st.floats(MIN_GROWTH, 8.0))


@given(SCHEDULES)
def test_cumulative_budgets_are_b0_times_gamma_to_the_k(values: tuple[int, int, float]) -> None:
    most, b0, gamma = values
    schedule = Schedule(most, b0, gamma, "cumulative")
    written = 0
    for segment in range(most):
        cap = schedule.cap(segment, written)
        assert cap is not None
        written += cap
        assert written == math.ceil(b0 * schedule.gamma**segment)
    assert schedule.cap(most, written) is None


@given(SCHEDULES)
def test_segment_budgets_are_b0_times_gamma_to_the_k(values: tuple[int, int, float]) -> None:
    most, b0, gamma = values
    schedule = Schedule(most, b0, gamma, "segment")
    caps = [schedule.cap(segment, 12345) for segment in range(most + 1)]
    assert caps == [*(math.ceil(b0 * gamma**k) for k in range(most)), None]


@given(
    SCHEDULES, st.integers(0, 10**6), st.integers(0, 8), st.sampled_from(["cumulative", "segment"])
)
def test_a_cap_is_never_below_one_token(
    values: tuple[int, int, float],
    written: int,
    segment: int,
    reading: Literal["cumulative", "segment"],
) -> None:
    most, b0, gamma = values
    cap = Schedule(most, b0, gamma, reading).cap(segment, written)
    assert cap is None or cap >= 1


def test_a_cumulative_point_that_was_passed_is_skipped() -> None:
    schedule = Schedule(4, 100, 2.0)
    assert schedule.cap(1, 450) == 800 - 450
    assert Schedule(4).cap(0, 0) is None


# -- safe points ---------------------------------------------------------------------------

PLAIN = st.text("ab 1.\n", max_size=20)
OPENINGS = {
    "\\boxed{": "}",
    "```\n": "\n```",
    "<tool_call>": "</tool_call>",
    "\\[": "\\]",
    "$$": "$$",
}


@given(PLAIN, st.sampled_from(sorted(OPENINGS)), PLAIN)
def test_an_open_box_fence_or_tool_call_is_never_a_safe_end(
    before: str, opening: str, inside: str
) -> None:
    assert is_safe_end(before)
    assert not is_safe_end(before + opening + inside)
    assert is_safe_end(before + opening + inside + OPENINGS[opening])
    at = last_safe_point(before + opening + inside)
    assert at is None or at <= len(before)


FRAGMENTS = st.sampled_from(
    [
        *OPENINGS,
        *OPENINGS.values(),
        "3.14",
        "12",
        " ",
        "\n",
        "So it is. ",
        "1. ",
        "\\{",
        "x",
        ".",
        "!",
    ]
)


@given(st.lists(FRAGMENTS, max_size=30).map("".join), st.integers(0, 20))
def test_a_safe_point_is_never_inside_a_number_or_anything_open(text: str, after: int) -> None:
    at = last_safe_point(text, after=after)
    if at is None:
        return
    assert at > after
    assert is_safe_end(text[:at])
    assert text[at - 1] == "\n" or text[at : at + 1].isspace()
    assert not text[at - 1].isdigit()


def test_a_truncated_text_ends_at_its_last_sentence() -> None:
    assert last_safe_point("It is 3.14 so. Then 12") == len("It is 3.14 so.")
    assert last_safe_point("1. First") is None
    assert last_safe_point("So \\boxed{4}. Or\n1. No") == len("So \\boxed{4}. Or\n")
    assert last_safe_point("Yes. No", after=4) is None


def test_escaped_braces_open_nothing() -> None:
    assert is_safe_end(r"The set \{1, 2")
    assert is_safe_end(r"a \\[2pt] b")
