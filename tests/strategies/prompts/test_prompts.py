"""Prompts are filled in one pass, and values are plain text."""

from __future__ import annotations

import pytest

from secondpass.strategies import prompts
from secondpass.strategies.api.quoting import is_quoted


@pytest.fixture
def one_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Q: {question}\nA: {draft} \\boxed{}"
    monkeypatch.setattr(prompts, "PROMPTS", {"one": text})


@pytest.mark.usefixtures("one_prompt")
def test_a_value_is_never_scanned_for_placeholders() -> None:
    filled = prompts.fill("one", {"question": "{draft}", "draft": "{question} \\frac{a}{b}"})
    assert filled == "Q: {draft}\nA: {question} \\frac{a}{b} \\boxed{}"


@pytest.mark.usefixtures("one_prompt")
@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ({}, "needs draft, needs question"),
        ({"question": "q"}, "needs draft"),
        ({"question": "", "draft": "", "x": ""}, "has no placeholder x"),
        ({"question": "", "x": ""}, "needs draft, has no placeholder x"),
    ],
)
def test_values_must_be_exactly_the_placeholders(values: dict[str, str], problems: str) -> None:
    with pytest.raises(ValueError, match=f"^prompt 'one': {problems}$"):
        prompts.fill("one", values)


@pytest.mark.usefixtures("one_prompt")
def test_an_unknown_prompt_is_an_error_that_lists_similar_names() -> None:
    with pytest.raises(
        ValueError, match=r"unknown prompt 'ones' \(similar names: one\): .* without \.txt"
    ):
        prompts.fill("ones", {})
    with pytest.raises(ValueError, match=r"unknown prompt 'solve' \("):
        prompts.has_reply_format("solve")


def test_every_prompt_of_the_package_has_text() -> None:
    assert prompts.PROMPTS
    assert all(text.strip() for text in prompts.PROMPTS.values())


SHARED = frozenset(("question", "count", "labels", "letters", "shape", "reply", "first", "second"))
"""Placeholders that take the client's question or text of our own, never text of a model."""


@pytest.mark.parametrize("name", sorted(prompts.PROMPTS))
def test_every_placeholder_is_quoted_or_known_to_take_no_text_of_a_model(name: str) -> None:
    unknown = {each for each in prompts.placeholders(name) if not is_quoted(each)} - SHARED
    assert not unknown, "quote it (strategies/api/quoting.py), or list it here if no model wrote it"
