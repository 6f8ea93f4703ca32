"""Where a continuation meets its prefix: the first text after a prefix that ends inside a character.

A character may take several tokens, and a prefix may end between them. vLLM (0.32 and before) then repeats the whole
prompt, system message included, in front of the first text that it sends. So that text is not believed: it is
decoded again from the tokens, which are right.
"""

from __future__ import annotations

from dataclasses import replace

from secondpass.service.engines.common.codec import Codec
from secondpass.strategies.api.engine import Call, Delta

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_WINDOW = 8  # tokens that are decoded to see how a prefix ends
_MOST_OPEN = 4  # a character has at most four bytes, and so at most as many tokens


async def open_character(call: Call, codec: Codec) -> tuple[int, ...]:
    """The tokens at the end of the prefix that hold only a part of a character; mostly none."""
    prefix = call.prefix if isinstance(call.prefix, tuple) else ()
    window: tuple[int, ...] = ()
    for piece in prefix[-_WINDOW:]:
        window = (*window, piece) if isinstance(piece, int) else ()
    size = 0
    while size < min(_MOST_OPEN, len(window)):
        text = await codec.join(window[: len(window) - size], call)
        if not text.endswith(_BROKEN):
            break
        size += 1
    return window[len(window) - size :]


class Seam:
    """Mends the first text of each completion that goes on from the tokens `tail` of an open character."""

    def __init__(self, call: Call, codec: Codec, tail: tuple[int, ...]) -> None:
        self._call = call
        self._codec = codec
        self._held = {index: list(tail) for index in range(call.n)} if tail else {}

    async def mend(self, delta: Delta) -> Delta:
        """`delta` with the text that its tokens, and those before it, really hold."""
        if (held := self._held.get(delta.index)) is None:
            return delta
        held += delta.token_ids
        if not delta.text:
            return delta
        del self._held[delta.index]
        if delta.finish_reason == "stop":
            held.pop()  # the end token, which is no text
        return replace(delta, text=await self._codec.join(held, self._call))
