"""A vLLM pooling server as an engine: a reward model, which scores conversations and never writes. asyncio only."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from secondpass.service.engines.openai.remote import RemoteEngine
from secondpass.service.engines.openai.token_cache import TokenCache
from secondpass.service.engines.openai.wire import usage_of
from secondpass.service.engines.reward.probe import (
    RewardServer,
    find_reward_server,
    rendering,
    values_of,
)
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import CapabilityMissing, EngineError, EngineUnavailable

Json = dict[str, Any]


class PoolingEngine(RemoteEngine[RewardServer]):
    """A reward model; see `RemoteEngine` for its parameters.

    A model with one label gives that label's value before any activation, which saturates and would make ties; one
    with two gives the probability of the second.
    """

    async def _found(self) -> RewardServer:
        self._prompts = TokenCache()  # another server may have another template
        return await find_reward_server(self._connection, self._wanted)

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """One delta, with the reward; closing the generator closes the connection, which aborts.

        Raises CapabilityMissing for a call that wants anything else, CallRejected for a 4xx, EngineUnavailable for
        5xx, 429 and silence, StreamInterrupted for an unreadable reply, and EngineError for a score that is no number.
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
            headers=self._routing.of_call(call),
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

    async def _body(self, call: Call, server: RewardServer) -> Json:
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
            headers = self._routing.of_call(call)
            reply = await self._connection.fetch("POST", url, body, headers=headers, role=call.role)
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
