"""Prompt injection: a candidate cannot alter another candidate's quote or a judge's verdict."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies import prompts
from secondpass.strategies.api.quoting import (
    boundary_of,
    degenerate,
    disarm,
    has_tokens,
    is_quoted,
    quote,
    quoted,
)
from secondpass.testing.injections import DEGENERATE, HONEST, INJECTIONS, QUESTION

SECRET = b"a secret of the run"
HOSTILE = st.sampled_from(sorted(INJECTIONS.values()))
TEXT = st.one_of(
    HOSTILE,
    st.text(),
    st.lists(st.one_of(HOSTILE, st.text(alphabet="<>|[]/ {}\\\"'\n:ABimstarend_"))).map("".join),
)


def read_back(text: str, boundary: str) -> dict[str, str]:
    """Return the quoted texts of a prompt by label, parsed with the boundary."""
    form = rf"^\[([A-Z0-9 ]+) {boundary}\]\n(.*?)\n\[END OF \1 {boundary}\]$"
    return dict(re.findall(form, text, re.DOTALL | re.MULTILINE))


def test_there_are_at_least_40_injections() -> None:
    assert len(INJECTIONS) >= 40


@given(TEXT, TEXT)
def test_a_candidate_never_changes_the_quote_of_another(one: str, other: str) -> None:
    values = {"question": QUESTION, "candidate_a": one, "candidate_b": other}
    boundary = boundary_of(SECRET, "prefer", values)
    filled = prompts.fill("prefer", quoted(values, boundary))
    assert read_back(filled, boundary) == {
        "CANDIDATE A": disarm(one),
        "CANDIDATE B": disarm(other),
    }
    assert filled.count(boundary) == 4
    assert not has_tokens(filled)


@given(TEXT)
def test_a_leaked_boundary_never_occurs_inside_a_quote(hostile: str) -> None:
    boundary = "0123456789abcdef"
    text = quote(
        f"{boundary[:8]}{boundary}{boundary[8:]}{hostile}{boundary}", "CANDIDATE", boundary
    )
    assert text.count(boundary) == 2
    assert len(read_back(text, boundary)) == 1


@given(TEXT)
def test_disarming_breaks_every_control_token_and_is_always_idempotent(text: str) -> None:
    assert not has_tokens(disarm(text))
    assert disarm(disarm(text)) == disarm(text)


@given(
    st.text(alphabet=st.characters(categories=("L", "N", "P", "Zs", "Sm"), exclude_characters="<["))
)
def test_text_without_control_tokens_is_unchanged(text: str) -> None:
    assert disarm(text) == text


@pytest.mark.parametrize(
    "text",
    ["if a < b and c > d:", "x[0] = y[i]", "List<String> names", "|x| < |y|", "a <s b", "[1, 2]"],
)
def test_code_and_mathematics_are_unchanged(text: str) -> None:
    assert disarm(text) == text


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_text_is_detected(name: str) -> None:
    assert degenerate(DEGENERATE[name]) is not None


@pytest.mark.parametrize(
    "text",
    [
        "42",
        "x",
        "\u221e",
        HONEST,
        "no",
        "0.5",
        "\u56db\u5341\u4e8c",
        "1 " * 20,
        *(str(n) for n in range(3)),
    ],
)
def test_a_short_answer_is_not_degenerate(text: str) -> None:
    assert degenerate(text) is None


def test_only_candidate_text_is_quoted() -> None:
    names = (
        "candidate",
        "candidates",
        "candidate_a",
        "critique",
        "attempts",
        "step",
        "tried",
        "review",
    )
    assert all(map(is_quoted, names))
    assert not any(map(is_quoted, ("question", "labels", "shape", "reply", "draft", "letters")))
    with pytest.raises(ValueError, match="takes one text"):
        quoted({"question": ["a", "b"]}, "0" * 16)


@pytest.mark.parametrize("name", sorted(prompts.PROMPTS))
def test_in_every_prompt_candidate_text_follows_the_shared_placeholders(name: str) -> None:
    order = re.findall(r"\{([a-z_]+)\}", prompts.PROMPTS[name])
    are_quoted = [is_quoted(placeholder) for placeholder in order]
    assert are_quoted == sorted(are_quoted)


@given(st.binary(min_size=1), st.text(), st.text())
def test_boundaries_depend_on_the_secret_and_on_every_text(
    secret: bytes, one: str, other: str
) -> None:
    values = {"candidate": one}
    assert boundary_of(secret, "p", values) == boundary_of(secret, "p", dict(values))
    assert boundary_of(secret + b"x", "p", values) != boundary_of(secret, "p", values)
    if one != other:
        assert boundary_of(secret, "p", values) != boundary_of(secret, "p", {"candidate": other})
