"""Engine for a reward model behind vLLM's pooling server. It only scores conversations. asyncio only."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from secondpass.service.engines.openai.remote import RemoteEngine
from secondpass.service.engines.openai.token_cache import TokenCache
from secondpass.service.engines.openai.usage import token_ids_of, usage_of
from secondpass.service.engines.reward.probe import (
    RewardServer,
    label_values,
    probe_reward_server,
    tokenize_body,
)
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import CapabilityMissing, EngineError

Json = dict[str, Any]

MAX_SCORE = 1e9
"""Largest absolute score: sums and exponentials of scores remain finite."""


class PoolingEngine(RemoteEngine[RewardServer]):
    """A reward model; see `RemoteEngine` for the parameters.

    The reward of a model with one label is the label's value without activation: activations saturate and cause ties.
    The reward of a model with two labels is the probability of the second.
    """

    async def _probe_server(self) -> RewardServer:
        self._prompts = TokenCache()  # another server may have another template
        return await probe_reward_server(self._connection, self._requested_model)

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Yield one delta with the reward; closing the generator aborts the request.

        Raises:
            CapabilityMissing: not a reward call.
            CallRejected: the server returned a 4xx.
            EngineUnavailable: the engine is not ready, or the server returned a 5xx or 429 or did not answer.
            StreamInterrupted: the reply does not have the expected shape.
            EngineError: the score is not a finite number.
        """
        if not call.reward:
            raise CapabilityMissing(self.name, call.needs | {"text"})
        server = self._server
        if server is None:
            raise self._not_ready(call)
        reply = await self._connection.fetch(
            "POST",
            f"{self._connection.root}/{server.route}",
            await self._body(call, server),
            headers=self._routing.of_call(call),
            role=call.role,
        )
        with self._connection.parsing(call.role):
            values, usage = label_values(reply, server.route), usage_of(reply)
        if len(values) != server.labels or not all(map(_is_score, values)):
            raise EngineError(
                f"engine {self.name!r} returned an invalid score: "
                f"expected {server.labels} finite value(s) up to {MAX_SCORE:g}, got {values[:3]}",
                engine=self.name,
                role=call.role,
            )
        usage = None if usage is None else replace(usage, completion=0)
        yield Delta(reward=values[-1], finish_reason="stop", usage=usage)

    async def _body(self, call: Call, server: RewardServer) -> Json:
        body: Json = {"model": server.dialect.model, "use_activation": server.labels > 1}
        if call.cache_salt is not None:
            body["cache_salt"] = call.cache_salt
        if server.accepts_messages:
            return body | {"messages": _messages(call)}
        return body | {"input": list(await self._render(call)), "add_special_tokens": False}

    async def count_prompt(self, call: Call) -> int:
        """Return the number of tokens of the conversation, by the server's tokenizer and chat template.

        Raises:
            CapabilityMissing: the server lacks `tokenize`.
            EngineError: the request to the server failed.
        """
        if "tokenize" not in self.capabilities:
            raise CapabilityMissing(self.name, ("tokenize",))
        return len(await self._render(call))

    async def _render(self, call: Call) -> Sequence[int]:
        async def read() -> Sequence[int]:
            body = tokenize_body(self.model, _messages(call))
            url = f"{self._connection.root}/tokenize"
            headers = self._routing.of_call(call)
            reply = await self._connection.fetch("POST", url, body, headers=headers, role=call.role)
            with self._connection.parsing(call.role):
                return list(token_ids_of(reply["tokens"]))

        return await self._prompts.get(call.messages, read)

    @asynccontextmanager
    async def forward(self, request: PlainRequest) -> AsyncIterator[PlainReply]:
        """Raise CapabilityMissing: a reward model does not generate text."""
        raise CapabilityMissing(self.name, ("text",))
        yield  # type: ignore[unreachable] # makes it the generator that the decorator wants


def _is_score(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= MAX_SCORE


def _messages(call: Call) -> list[Json]:
    return [message.model_dump(exclude_none=True) for message in call.messages]
