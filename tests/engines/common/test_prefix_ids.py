"""Prefixes of token ids and texts, and the bound on their number of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from secondpass.service.calls.prompt_size import text_bound
from secondpass.service.engines.common.prefix_ids import prefix_ids
from secondpass.service.engines.common.utf8_repair import incomplete_character
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import Message, PrefixPart

CALL = Call(role="actor", purpose="solve", messages=(Message(role="user", content="?"),))


class ByteTokenizer:
    """A tokenizer with one token per byte."""

    async def encode(self, text: str, call: Call) -> Sequence[int]:
        return list(text.encode())

    async def decode(self, ids: Sequence[int], call: Call) -> str:
        return bytes(ids).decode(errors="replace")


def call_with_prefix(prefix: tuple[PrefixPart, ...] | str | None) -> Call:
    return Call(role="actor", purpose="solve", messages=CALL.messages, prefix=prefix)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("prefix", "ids"),
    [
        ((1, 2), (1, 2)),
        ((1, "ab", 2, "c"), (1, 97, 98, 2, 99)),
        ((), ()),
        ("ab", ()),
        (None, ()),
    ],
)
async def test_each_text_in_a_prefix_is_tokenized_on_its_own(
    prefix: tuple[PrefixPart, ...] | str | None, ids: tuple[int, ...]
) -> None:
    assert await prefix_ids(call_with_prefix(prefix), ByteTokenizer()) == ids


@pytest.mark.anyio
async def test_a_prefix_that_ends_with_a_text_has_no_incomplete_character() -> None:
    incomplete = "\N{FOX FACE}".encode()[:2]
    call = call_with_prefix((65, *incomplete))
    assert await incomplete_character(call, ByteTokenizer()) == tuple(incomplete)
    call = call_with_prefix((65, *incomplete, "a"))
    assert await incomplete_character(call, ByteTokenizer()) == ()


def test_the_tokens_of_a_text_in_a_prefix_are_bounded_by_its_bytes() -> None:
    with_text = call_with_prefix((1, "\N{FOX FACE}a"))
    assert text_bound(with_text) - text_bound(call_with_prefix(())) == 6
