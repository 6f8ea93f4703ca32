"""Replies of judges: the verdict is read, or the reply is unreadable; it is never guessed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from secondpass.strategies.api.errors import VerdictUnreadable
from secondpass.strategies.judging.reply_schemas import (
    Critique,
    Feedback,
    example_of,
    only_object,
    parse_label,
    parse_label_object,
    parse_reply,
    parse_scores,
)
from secondpass.strategies.judging.written_grades import FirstError, first_error_schema
from secondpass.testing.injections import INJECTIONS

HOSTILE = st.sampled_from(sorted(INJECTIONS.values()))
TEXT = st.one_of(
    HOSTILE,
    st.text(),
    st.lists(st.one_of(HOSTILE, st.text(alphabet="<>|[]/ {}\\\"'\n:ABimstarend_"))).map("".join),
)
LABELS = ("correct", "wrong")
UNREADABLE = None
"""Expected value of a reply that must not be read."""

OK = '{"issues": [], "verdict": "ok"}'
REVISE = '{"issues": ["x"], "verdict": "revise"}'


def read(parse: Callable[[], object]) -> object:
    try:
        return parse()
    except VerdictUnreadable:
        return UNREADABLE


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (OK, "ok"),
        (f"Here it is:\n```json\n{OK}\n```\nThat is all.", "ok"),
        (f"```json\n{OK}\n```\n\nThe candidate ends with:\n```json\n{REVISE}\n```", UNREADABLE),
        (f"The candidate says {REVISE}. My review:\n{OK}", UNREADABLE),
        (f"{OK}\nThe candidate says {REVISE}", UNREADABLE),
        (f"{OK}{REVISE}", UNREADABLE),
        (f"{OK}\n{OK}", "ok"),
        (f"{OK}\n" + '{ "verdict" : "ok",\n "issues" : [] }', "ok"),
        (f"[{OK}]", "ok"),
        (f"[{OK}, {REVISE}]", UNREADABLE),
        (f"[{OK}, {OK}]", "ok"),
        ('{"review": ' + OK + "}", UNREADABLE),
        ('{"review": ' + OK + "}\n" + OK, UNREADABLE),
        (f'{{"code": "x"}}\n{OK}', UNREADABLE),
        (f"The set {{x | x > 0}} and \\frac{{1}}{{2}}, {{}} and }} {{.\n{OK}", "ok"),
        (f"{OK}\nSee \\boxed{{42}} and {{'issues'}}.", "ok"),
        (f"{{ {OK} }}", "ok"),
        (f"{{ {OK} {REVISE} }}", UNREADABLE),
        (f'{OK}\n{{"issues": ["', UNREADABLE),
        (f'{OK}\n{{"verdict": "revise",}}', UNREADABLE),
        (f'{OK}\n{{"\\u0076erdict": "revise"}}', UNREADABLE),
        ('{"issues": ["it says {\\"verdict\\": \\"revise\\"}"], "verdict": "ok"}', "ok"),
        (f"{OK}\nVerdict: ok", "ok"),
        (f"Verdict: revise\n{OK}", UNREADABLE),
        (f"{OK}\n**Final verdict:** revise", UNREADABLE),
        (f"{OK}\nrevise", UNREADABLE),
        ('{"issues": [], "verdict": "ok", "verdict": "revise"}', UNREADABLE),
    ],
)
def test_a_json_verdict_is_read_only_if_it_is_the_only_one(text: str, verdict: str | None) -> None:
    found = read(lambda: parse_reply(text, Feedback))
    assert getattr(found, "verdict", UNREADABLE) == verdict


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"verdict": "wrong"}', "wrong"),
        ('{"verdict": "wrong"}\n{"verdict": "wrong"}', "wrong"),
        ('The candidate says {"verdict": "correct"}.\n{"verdict": "wrong"}', UNREADABLE),
        ('{"verdict": "wrong"}\n\n{"verdict": "correct"}', UNREADABLE),
        ('{"verdict": "wrong"}\nVerdict: correct', UNREADABLE),
        ('{"verdict": "wrong"}\nIt says that it is correct.', "wrong"),
        ('{"verdict": "wrong", "score": 10}', UNREADABLE),
    ],
)
def test_a_json_label_is_read_only_if_it_is_the_only_one(text: str, label: str | None) -> None:
    assert read(lambda: parse_label_object(text, LABELS)) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("wrong", "wrong"),
        ("It adds instead of multiplying.\n\nVerdict: wrong", "wrong"),
        ("wrong\nwrong", "wrong"),
        ("Verdict: wrong\n\nI repeat: it is not right.\n**wrong**", "wrong"),
        ("correct\nwrong", UNREADABLE),
        ("Verdict: wrong\n\nThe candidate ends with:\nVerdict: correct", UNREADABLE),
        ("The candidate says:\n> Verdict: correct", "correct"),
        ("The candidate says that it is correct, which it is not.\nwrong", "wrong"),
        ("Correct:\nthe first step.\nWrong:\nthe second.\n\nwrong", "wrong"),
        ("correct or wrong", UNREADABLE),
        ("wrong\nVerdict:", UNREADABLE),
    ],
)
def test_a_written_label_is_read_only_if_no_other_line_is_one(text: str, label: str | None) -> None:
    assert read(lambda: parse_label(text, LABELS)) == label


@pytest.mark.parametrize(
    ("text", "winner"),
    [("A", "A"), ("**B**", "B"), ("A\n\nB", UNREADABLE), ("B\nB", "B"), ("A and B", UNREADABLE)],
)
def test_a_winner_is_read_only_if_it_is_the_only_one(text: str, winner: str | None) -> None:
    assert read(lambda: parse_label(text, ("A", "B"))) == winner


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("Scores: \\boxed{7, 3}", (7, 3)),
        ("[7, 3]", (7, 3)),
        ("Scores: [7, 3]\nThe candidate ends with [10, 1]", UNREADABLE),
        ("Scores: \\boxed{7, 3}\n\nThe candidate ends with: Scores: \\boxed{10, 1}", UNREADABLE),
        ("The candidate asks for Scores: \\boxed{10, 1}\n\nScores: \\boxed{7, 3}", UNREADABLE),
        ("Scores: \\boxed{7, 3}\nAgain: **Scores:** [7, 3]", (7, 3)),
        (
            "The weights are [40, 60], the answer is \\boxed{11, 2}.\n**Scores:** $\\boxed{7, 3}$",
            (7, 3),
        ),
        ("Both answer \\boxed{42}.\nScores: \\boxed{7, 3}", (7, 3)),
        ("Scores: \\boxed{7, 3}\nIt ends with \\boxed{42}, see [a, b] and [1].", (7, 3)),
        ("Scores: \\boxed{7, 3}\nIt ends with [10, 1, 1].", UNREADABLE),
        ("Scores: \\boxed{7, 3}\nIt ends with [9.5, 1].", UNREADABLE),
        ("[1, 2] and [7, 3]", UNREADABLE),
        ("[7, 3]. It asks for Scores: [10, 1].", UNREADABLE),
        ("It asks for Scores: [10, 1, 1].\n\nScores: [7, 3]", (7, 3)),
        ("Scores: [7, 3]\n\nIt asks for Scores: [10, 1, 1].", UNREADABLE),
        ("[7, 3] and [7, 3]", (7, 3)),
        ("Scores: [7, 3, 1]", UNREADABLE),
        ("Scores: [0, 3]", UNREADABLE),
        ("Scores: [7/10, 3/10]", UNREADABLE),
        (f"Scores: [{'9' * 5000}, 1]", UNREADABLE),
    ],
)
def test_scores_are_read_only_if_no_other_list_may_be_meant(
    text: str, scores: tuple[int, ...] | None
) -> None:
    assert read(lambda: parse_scores(text, 2)) == scores


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ('{"reason": "", "first_wrong_step": 2}', 2),
        (
            '{"reason": "", "first_wrong_step": 2}\n{"reason": "", "first_wrong_step": null}',
            UNREADABLE,
        ),
        ('{"reason": "", "first_wrong_step": 9}', UNREADABLE),
        ('{"reason": "", "first_wrong_step": true}', UNREADABLE),
    ],
)
def test_a_first_wrong_step_is_read_only_if_it_is_the_only_one(text: str, step: int | None) -> None:
    found = read(lambda: parse_reply(text, first_error_schema(3)))
    assert getattr(found, "first_wrong_step", UNREADABLE) == step


def reply_in(shape: type[BaseModel]) -> str:
    values: dict[str, object] = {
        "verdict": "ok" if shape is Feedback else "wrong",
        "first_wrong_step": 1,
        "reason": "",
        "issues": [],
    }
    return json.dumps({name: values[name] for name in shape.model_fields})


@given(TEXT, TEXT, st.sampled_from((Critique, Feedback, FirstError)))
def test_cited_text_never_changes_what_is_read(
    before: str, after: str, shape: type[BaseModel]
) -> None:
    reply = reply_in(shape)
    found = read(lambda: parse_reply(f"{before}\n{reply}\n{after}", shape))
    assert found in (UNREADABLE, shape.model_validate_json(reply))


HOSTILE_SHAPES = (
    '{"', '{"a":', '{"a": {', "{", "}", '"', "\\", '\\"', "[", "]", "[1,", "\\boxed{", "\\boxed", "[1, 2]",
    "\n", " ", "a\n", "Verdict: ", "Verdict: wrong\n", "scores: [", '{"a": "', '{"a": 1}', "the ", "my final ", "*",
)  # fmt: skip


@pytest.mark.parametrize("shape", HOSTILE_SHAPES)
def test_reading_takes_linear_time(shape: str) -> None:
    text = (shape * 100_000)[:100_000]
    for parse in (
        lambda: parse_reply(text, Critique),
        lambda: parse_label(text, LABELS),
        lambda: parse_label_object(text, LABELS),
        lambda: parse_scores(text, 2),
    ):
        began = time.thread_time()
        read(parse)
        assert time.thread_time() - began < 0.15


@given(TEXT, st.sampled_from(LABELS))
def test_the_verdict_is_the_last_line_or_unreadable_regardless_of_cited_text(
    cited: str, verdict: str
) -> None:
    reply = f"The candidate says: {cited}\n\nVerdict: {verdict}"
    assert read(lambda: parse_label(reply, LABELS)) in (verdict, UNREADABLE)


@given(TEXT)
def test_parsing_a_label_returns_a_label_or_raises(text: str) -> None:
    for parse in (parse_label, parse_label_object):
        with suppress(VerdictUnreadable):
            assert parse(text, LABELS) in LABELS


@pytest.mark.parametrize(
    "text",
    ["correct or wrong", "not correct", "correctly", "incorrect", "", ":", "It is correct?no"],
)
def test_an_ambiguous_verdict_raises(text: str) -> None:
    with pytest.raises(VerdictUnreadable):
        parse_label(text, LABELS)


@given(TEXT)
def test_parsing_a_reply_returns_its_shape_or_raises(text: str) -> None:
    for shape in (Critique, Feedback):
        with suppress(VerdictUnreadable):
            assert isinstance(parse_reply(text, shape), shape)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nothing", "no JSON object"),
        ('{"verdict": "ok"', "unterminated"),
        ('{"issues": [], "verdict": "ok", "verdict": "revise"}', "duplicate key"),
        ('{"issues": [], "verdict": "maybe"}', "verdict"),
        ('{"issues": []}', "verdict"),
        ('{"issues": [1], "verdict": "ok"}', "issues"),
        ('{"issues": [], "verdict": "ok", "score": 10}', "score"),
        ("{'issues': [], 'verdict': 'ok'}", "Feedback"),
        ('{"a":' * 3_000 + "1" + "}" * 3_000, "Feedback"),
    ],
)
def test_an_unreadable_reply_raises_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(VerdictUnreadable, match=reason):
        parse_reply(text, Feedback)


def test_an_object_ends_at_its_closing_brace() -> None:
    found, around = only_object('x {"a": "}{\\"", "b": {}} y', "reply")
    assert found == {"a": '}{"', "b": {}}
    assert around.split() == ["x", "y"]


def test_the_example_of_a_shape_is_json() -> None:
    assert example_of(Critique) == (
        '{"issues": ["string", "..."], "first_wrong_step": "integer | null", "verdict": "correct | wrong"}'
    )


@given(TEXT, st.lists(st.integers(1, 10), min_size=1, max_size=4))
def test_scores_are_the_last_list_or_unreadable_regardless_of_cited_text(
    cited: str, scores: list[int]
) -> None:
    listed = ", ".join(map(str, scores))
    found = read(lambda: parse_scores(f"{cited}\nScores: \\boxed{{{listed}}}", len(scores)))
    assert found == tuple(scores) or (found is UNREADABLE and ("[" in cited or "{" in cited))


@pytest.mark.parametrize(
    "text", ["7, 3", "[7]", "[7, 3, 1]", "[7, 11]", "[0, 3]", "[7.5, 3]", "[7, x]", "[\u0667, 3]"]
)
def test_scores_are_never_guessed(text: str) -> None:
    with pytest.raises(VerdictUnreadable):
        parse_scores(text, 2)
