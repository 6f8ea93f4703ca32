"""What an assistant's turn already holds, as token ids: texts among them are made tokens of by the engine's own tokenizer."""

from __future__ import annotations

from secondpass.service.engines.common.codec import Codec
from secondpass.strategies.api.engine import Call


async def prefix_ids(call: Call, codec: Codec) -> tuple[int, ...]:
    """The ids of the call's prefix; none for one that is a text, which is rendered with the messages.

    Raises what `codec` raises.
    """
    if not isinstance(call.prefix, tuple):
        return ()
    ids: list[int] = []
    for piece in call.prefix:
        if isinstance(piece, int):
            ids.append(piece)
        else:
            ids += await codec.split(piece, call)
    return tuple(ids)
