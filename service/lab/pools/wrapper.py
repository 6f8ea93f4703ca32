"""The base of engines that wrap another engine: what a subclass does not change is the engine's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager

from secondpass.strategies.api.engine import Call, Delta, Engine, PlainReply, PlainRequest
from secondpass.strategies.api.values import Capability


class EngineWrapper:
    """An `Engine` that is `engine` in all that a subclass leaves alone."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = engine.name
        self.model = engine.model

    @property
    def ready(self) -> bool:
        """The engine's own."""
        return self.engine.ready

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The engine's own."""
        return self.engine.capabilities

    @property
    def context_window(self) -> int | None:
        """The engine's own."""
        return self.engine.context_window

    async def start(self) -> None:
        """Start the engine; it may learn its model's name by that."""
        await self.engine.start()
        self.model = self.engine.model

    async def aclose(self) -> None:
        """Close the engine."""
        await self.engine.aclose()

    def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """The engine's own deltas."""
        return self.engine.stream(call)

    async def count_prompt(self, call: Call) -> int:
        """The engine's own count."""
        return await self.engine.count_prompt(call)

    def forward(self, request: PlainRequest) -> AbstractAsyncContextManager[PlainReply]:
        """The engine's own reply."""
        return self.engine.forward(request)
