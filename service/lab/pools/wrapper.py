"""Base class of engines that wrap another engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager

from secondpass.strategies.api.engine import Call, Delta, Engine, PlainReply, PlainRequest
from secondpass.strategies.api.values import Capability


class EngineWrapper:
    """An `Engine` that delegates everything to `engine`; subclasses override parts of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = engine.name
        self.model = engine.model

    @property
    def ready(self) -> bool:
        """See the wrapped engine."""
        return self.engine.ready

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See the wrapped engine."""
        return self.engine.capabilities

    @property
    def context_window(self) -> int | None:
        """See the wrapped engine."""
        return self.engine.context_window

    @property
    def template_tokens(self) -> int | None:
        """See the wrapped engine."""
        return self.engine.template_tokens

    @property
    def control_tokens(self) -> frozenset[str]:
        """See the wrapped engine."""
        return self.engine.control_tokens

    async def start(self) -> None:
        """Start the engine and adopt its model name, which may be known only then."""
        await self.engine.start()
        self.model = self.engine.model

    async def aclose(self) -> None:
        """Close the engine."""
        await self.engine.aclose()

    def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Stream the engine's deltas."""
        return self.engine.stream(call)

    async def count_prompt(self, call: Call) -> int:
        """Return the engine's count of prompt tokens."""
        return await self.engine.count_prompt(call)

    def forward(self, request: PlainRequest) -> AbstractAsyncContextManager[PlainReply]:
        """Forward the request to the engine."""
        return self.engine.forward(request)
