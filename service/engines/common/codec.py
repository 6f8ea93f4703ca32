"""The tokenizer interface that label reads and continuations need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from secondpass.strategies.api.engine import Call


class Codec(Protocol):
    """The tokenizer of an engine's model, used on behalf of a call.

    Implementations that request the tokens from a server raise EngineError when the request fails.
    """

    async def encode(self, text: str, call: Call) -> Sequence[int]:
        """Return the token ids of `text`, without special tokens around it."""

    async def decode(self, ids: Sequence[int], call: Call) -> str:
        """Return the text of `ids`, special tokens included."""
