"""Conversion of a call's prefix to token ids."""

from __future__ import annotations

from secondpass.service.engines.common.codec import Codec
from secondpass.strategies.api.engine import Call


async def prefix_ids(call: Call, codec: Codec) -> tuple[int, ...]:
    """Return the token ids of the call's prefix, with each text in it tokenized on its own.

    Empty without a prefix, and for a prefix that is one text: that is rendered with the messages.
    Raises what `codec` raises.
    """
    if not isinstance(call.prefix, tuple):
        return ()
    ids: list[int] = []
    for part in call.prefix:
        if isinstance(part, int):
            ids.append(part)
        else:
            ids += await codec.encode(part, call)
    return tuple(ids)
