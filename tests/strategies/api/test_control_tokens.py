"""Control tokens of known families and of a tokenizer, and text that has none."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.control_tokens import (
    BREAKER,
    MAX_TOKENS,
    token_pattern,
    tokens_beyond_known,
)
from secondpass.strategies.api.quoting import disarm, has_tokens
from tests.strategies.api.control_token_families import CONTROL_TOKENS

EVERY = sorted({token for tokens in CONTROL_TOKENS.values() for token in tokens})
NEW = ("<@turn@>", "@@tool@@", "<<x>>", "<<x", "<x>>", "{{role}}", "\u27e6user\u27e7", "<1_end>")
"""Control tokens of a family that the patterns do not know; some overlap."""

LITERALS = frozenset(NEW)
PIECES = st.sampled_from([*EVERY, *NEW, "<", ">", "|", "<|", "|>", "[", "]", "a", " ", "\n", "/"])
MIXED = st.lists(st.one_of(PIECES, st.text(max_size=3))).map("".join)


def is_visible(character: str) -> bool:
    is_kept = character in "\n\t\u200c\u200d"
    return is_kept or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")


@pytest.mark.parametrize(
    ("family", "token"),
    [(family, each) for family, all_ in CONTROL_TOKENS.items() for each in all_],
)
def test_every_token_of_every_family_is_broken_in_any_surroundings(family: str, token: str) -> None:
    for text in (
        token,
        f"a{token}b",
        f"x {token} y",
        f"<{token}>",
        f"[{token}]",
        f"|{token}|",
        token * 3,
    ):
        assert token not in disarm(text), family


@given(MIXED)
def test_no_token_survives_and_breaking_is_idempotent(text: str) -> None:
    broken = disarm(text)
    assert not has_tokens(broken)
    assert not any(token in broken for token in EVERY)
    assert disarm(broken) == broken
    visible = "".join(filter(is_visible, text))
    assert broken.replace(BREAKER, "") == visible.replace(BREAKER, "")


@given(MIXED)
def test_no_literal_of_a_tokenizer_survives(text: str) -> None:
    broken = disarm(text, LITERALS)
    assert not any(token in broken for token in (*EVERY, *NEW))
    assert not has_tokens(broken, LITERALS)
    assert disarm(broken, LITERALS) == broken


@given(
    st.frozensets(st.text("<>|ab@#x ", min_size=1, max_size=6), max_size=8),
    st.lists(st.text("<>|ab@#x ", max_size=6)).map("".join),
)
def test_every_set_of_literals_is_broken_whatever_it_contains(
    tokens: frozenset[str], text: str
) -> None:
    literals = tokens_beyond_known(tokens)
    text += "".join(sorted(literals))
    assert not any(token in disarm(text, literals) for token in literals)


def test_literals_are_matched_exactly_and_not_as_patterns() -> None:
    tokens = frozenset(("<a.b #c>",))
    assert disarm("<a.b #c> <A.B #C> <axb #c>", tokens) == f"<{BREAKER}a.b #c> <A.B #C> <axb #c>"


@pytest.mark.parametrize(
    "text",
    [
        "a<b|c>",
        "|x| < |y|",
        "the mean speed <|v|>",
        "P(A|B) < P(B|A), and P(A|B) > 0",
        "<psi|H|phi>",
        "if a < b and c > d: x[0] = y[i]",
        "arr[mask], x[pad], t[sep], f[cls], run(*[args])",
        "List<String> names; Map<string | null>; Vec<[u8]>; Arc<[T]>",
        "cout << x << endl; cin >> y; if (x<y || z>w) {}",
        "p <|> q <||> r; f <| x |> g; [|1; 2; 3|]",
        "<p>One <b>bold</b> word, <br/> and <table><tr><td>1</td></tr></table></p>",
        '<img src="a.png"><audio><video><code>x</code>',
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "cp <file> <target> | sort > out.txt; a <(b) >(c)",
        "see https://example.org/think/about and and/or",
        "[x](y), [1], [^1], [ ], [x], [TODO], [A|B]",
        "a \u2264 b \u2265 c, \u27e8x|y\u27e9",
        "int a[N][M]; a[i]~b[j]; !b[0]",
        "<<EOF\ntext\nEOF",
        "x = {'a': 1}  # {role}",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert disarm(text) == text


@given(st.integers(0, 0x10FFFF).map(chr))
def test_exactly_the_invisible_characters_are_dropped(character: str) -> None:
    assert disarm(character) == (character if is_visible(character) else "")


def test_only_tokens_that_ordinary_text_lacks_are_taken_from_a_tokenizer() -> None:
    listed = [
        "!",
        "ab",
        "the",
        " x",
        "\n\n",
        "...",
        "----",
        "<|im_start|>",
        "[INST]",
        "<" + "x" * 64,
    ]
    assert tokens_beyond_known([*listed, f"<a{BREAKER}b"]) == frozenset()
    assert tokens_beyond_known(["<@turn@>", "\u2581<@>"]) == {"<@turn@>", "\u2581<@>"}
    many = tokens_beyond_known(f"<@{i}@>" for i in range(10 * MAX_TOKENS))
    assert len(many) == MAX_TOKENS


def test_the_pattern_of_a_token_set_is_compiled_once() -> None:
    assert token_pattern(LITERALS) is token_pattern(frozenset(NEW))
    assert isinstance(token_pattern(), re.Pattern)
