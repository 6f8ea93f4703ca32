"""Text to tokens and back, as far as label reads and continuations need it: each engine has its own way to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from secondpass.strategies.api.values import Role


class Codec(Protocol):
    """The tokenizer of an engine's model. Both raise EngineError where the engine must be asked; `role` is told then."""

    async def split(self, text: str, role: Role | None = None) -> Sequence[int]:
        """The tokens of `text` alone, without special ones around it."""

    async def join(self, ids: Sequence[int], role: Role | None = None) -> str:
        """The text of `ids`, special tokens included."""
