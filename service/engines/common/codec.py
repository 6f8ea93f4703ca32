"""Text to tokens and back, as far as label reads and continuations need it: each engine has its own way to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from secondpass.strategies.api.engine import Call


class Codec(Protocol):
    """The tokenizer of an engine's model, asked on behalf of a call. Raises EngineError where the engine must be asked."""

    async def split(self, text: str, call: Call) -> Sequence[int]:
        """The tokens of `text` alone, without special ones around it."""

    async def join(self, ids: Sequence[int], call: Call) -> str:
        """The text of `ids`, special tokens included."""
