"""Prefixes of tokens with texts among them, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from secondpass.service.calls.dispatch import prompt_bound
from secondpass.service.engines.common.prefix_ids import prefix_ids
from secondpass.service.engines.common.utf8_seam import open_character
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import Message, PrefixPart

CALL = Call(role="actor", purpose="solve", messages=(Message(role="user", content="?"),))


class Letters:
    """A tokenizer whose tokens are bytes."""

    async def split(self, text: str, call: Call) -> Sequence[int]:
        return list(text.encode())

    async def join(self, ids: Sequence[int], call: Call) -> str:
        return bytes(ids).decode(errors="replace")


def holding(prefix: tuple[PrefixPart, ...] | str | None) -> Call:
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
async def test_texts_among_tokens_are_made_tokens_of_alone(
    prefix: tuple[PrefixPart, ...] | str | None, ids: tuple[int, ...]
) -> None:
    assert await prefix_ids(holding(prefix), Letters()) == ids


@pytest.mark.anyio
async def test_no_character_is_open_after_a_text() -> None:
    broken = "\N{FOX FACE}".encode()[:2]
    assert await open_character(holding((65, *broken)), Letters()) == tuple(broken)
    assert await open_character(holding((65, *broken, "a")), Letters()) == ()


def test_a_text_among_tokens_is_bounded_by_its_bytes() -> None:
    assert prompt_bound(holding((1, "\N{FOX FACE}a"))) - prompt_bound(holding(())) == 6
