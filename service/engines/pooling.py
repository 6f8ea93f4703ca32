"""A vLLM pooling server as an engine: a reward model, which scores conversations and never writes. asyncio only."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from secondpass.service.engines.connection import Connection
from secondpass.service.engines.pooling_probe import Scorer, find_scorer, rendering, values_of
from secondpass.service.engines.probe import check_health
from secondpass.service.engines.rendering import TokenCache
from secondpass.service.engines.wire import traced, usage_of
from secondpass.strategies.core import (
    Call,
    Capability,
    CapabilityMissing,
    Delta,
    EngineError,
    EngineUnavailable,
    PlainReply,
    PlainRequest,
)

Json = dict[str, Any]


class PoolingEngine:
    """The reward model behind `url` (it ends in /v1), named `model` there (None: the only one that is served).

    A model with one label gives that label's value before any activation, which saturates and would make ties; one
    with two gives the probability of the second. Until `start` has succeeded `ready` is false and `why_not_ready`
    says why. The other parameters are those of `HttpEngine`.
    """

    def __init__(
        self,
        name: str,
        url: str,
        model: str | None = None,
        *,
        key: str | None = None,
        connect_timeout: float = 5.0,
        idle_timeout: float | None = 120.0,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self.name = name
        self.model = model or ""
        self.why_not_ready: str | None = "not asked yet"
        self._wanted = model
        self._server: Scorer | None = None
        self._starting = anyio.Lock()
        self._prompts = TokenCache()
        self._connection = Connection(
            name,
            url,
            key,
            connect_timeout=connect_timeout,
            idle_timeout=idle_timeout,
            client=client,
        )

    @property
    def ready(self) -> bool:
        """Whether the server answered when it was last asked, and can score."""
        return self.why_not_ready is None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """`reward`, and `tokenize` where the server has it; empty until it has answered."""
        return self._server.dialect.capabilities if self._server else frozenset()

    @property
    def context_window(self) -> int | None:
        """Most tokens of a conversation, where the server tells."""
        return self._server.dialect.context_window if self._server else None

    async def start(self) -> None:
        """Find out how the server scores, or, once that is known, whether it is still alive.

        After a failure the next call asks everything anew: it may be another server by then.
        """
        async with self._starting:
            try:
                if self.ready and self._server:
                    await check_health(self._connection, self._server.dialect)
                else:
                    self._server = await find_scorer(self._connection, self._wanted)
                    self.model, self._prompts = self._server.dialect.model, TokenCache()
            except EngineError as failure:
                self.why_not_ready = str(failure)
            else:
                self.why_not_ready = None

    async def aclose(self) -> None:
        """Close every connection; calls that are running fail."""
        self.why_not_ready = "closed"
        await self._connection.aclose()

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """One delta, with the reward; closing the generator closes the connection, which aborts.

        Raises CapabilityMissing for a call that wants anything else, CallRejected for a 4xx, EngineUnavailable for
        5xx, 429 and silence, StreamCut for an unreadable reply, and EngineError for a score that is no number.
        """
        if not call.reward:
            raise CapabilityMissing(self.name, call.needs | {"text"})
        server = self._server
        if server is None:
            raise EngineUnavailable(
                f"not ready: {self.why_not_ready}", engine=self.name, role=call.role
            )
        reply = await self._connection.fetch(
            "POST",
            f"{self._connection.root}/{server.route}",
            await self._body(call, server),
            headers=traced(call),
            role=call.role,
        )
        with self._connection.readable(call.role):
            values, usage = values_of(reply, server.route), usage_of(reply)
        if len(values) != server.labels or not all(map(math.isfinite, values)):
            raise EngineError(
                f"not {server.labels} finite value(s): {values[:3]}",
                engine=self.name,
                role=call.role,
            )
        yield Delta(reward=values[-1], finish_reason="stop", usage=usage)

    async def _body(self, call: Call, server: Scorer) -> Json:
        body: Json = {"model": server.dialect.model, "use_activation": server.labels > 1}
        if call.cache_salt is not None:
            body["cache_salt"] = call.cache_salt
        if server.takes_messages:
            return body | {"messages": _dumped(call)}
        return body | {"input": list(await self._render(call)), "add_special_tokens": False}

    async def count_prompt(self, call: Call) -> int:
        """Tokens of the conversation, by the server's own tokenizer and template.

        Raises CapabilityMissing without `tokenize`, EngineError and its kinds when the server fails.
        """
        if "tokenize" not in self.capabilities:
            raise CapabilityMissing(self.name, ("tokenize",))
        return len(await self._render(call))

    async def _render(self, call: Call) -> Sequence[int]:
        async def read() -> Sequence[int]:
            body = rendering(self.model, _dumped(call))
            url = f"{self._connection.root}/tokenize"
            reply = await self._connection.fetch("POST", url, body, role=call.role)
            with self._connection.readable(call.role):
                return [int(token) for token in reply["tokens"]]

        return await self._prompts.get(call.messages, read)

    @asynccontextmanager
    async def forward(self, request: PlainRequest) -> AsyncIterator[PlainReply]:
        """Nothing is handed on: raises CapabilityMissing."""
        raise CapabilityMissing(self.name, ("text",))
        yield  # type: ignore[unreachable] # makes it the generator that the decorator wants


def _dumped(call: Call) -> list[Json]:
    return [message.model_dump(exclude_none=True) for message in call.messages]
