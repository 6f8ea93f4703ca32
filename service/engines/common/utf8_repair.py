"""Repair of the first text of a continuation whose prefix ends inside a UTF-8 character.

One character may take several tokens, and a prefix may end between them. The first text of the continuation then
starts with the whole prompt, system message included, in vLLM 0.32 and before. Its token ids are correct, so the text
is decoded from them instead.
"""

from __future__ import annotations

from dataclasses import replace

from secondpass.service.engines.common.codec import Codec
from secondpass.strategies.api.engine import Call, Delta

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_WINDOW = 8  # tokens decoded at the end of the prefix
_MAX_INCOMPLETE = 4  # a UTF-8 character has at most four bytes, hence at most four tokens


async def incomplete_character(call: Call, codec: Codec) -> tuple[int, ...]:
    """Return the tokens at the end of the prefix that encode only part of a character; usually none."""
    prefix = call.prefix if isinstance(call.prefix, tuple) else ()
    window: tuple[int, ...] = ()
    for part in prefix[-_WINDOW:]:
        window = (*window, part) if isinstance(part, int) else ()
    size = 0
    while size < min(_MAX_INCOMPLETE, len(window)):
        text = await codec.decode(window[: len(window) - size], call)
        if not text.endswith(_REPLACEMENT):
            break
        size += 1
    return window[len(window) - size :]


class Utf8Repair:
    """Re-decodes the first text of each completion of a call whose prefix ends inside a character.

    `tail` contains the tokens of the incomplete character, as returned by `incomplete_character`.
    """

    def __init__(self, call: Call, codec: Codec, tail: tuple[int, ...]) -> None:
        self._call = call
        self._codec = codec
        self._pending = {index: list(tail) for index in range(call.n)} if tail else {}

    async def apply(self, delta: Delta) -> Delta:
        """Return `delta` with the text decoded from its tokens and the incomplete character."""
        if (pending := self._pending.get(delta.index)) is None:
            return delta
        pending += delta.token_ids
        if not delta.text:
            return delta
        del self._pending[delta.index]
        if delta.finish_reason == "stop":
            pending.pop()  # the end token, which has no text
        return replace(delta, text=await self._codec.decode(pending, self._call))
