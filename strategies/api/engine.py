"""The Engine protocol: calls and the deltas that answer them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Protocol

from secondpass.strategies.api.values import (
    Capability,
    FinishReason,
    Message,
    PrefixPart,
    ReportedUsage,
    Role,
    Sampling,
    ToolCall,
)

MAX_TEMPLATE_TOKENS = 16_384
"""Most tokens that a chat template can plausibly add to a message. A report of more is not believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Hints for routers and schedulers in front of an engine; they do not affect replies.

    Attributes:
        session: Calls of one session share a prompt prefix, so that one replica should serve them.
        tenant: Key of fair queues.
        headers: Headers from the client, if it is allowed to set them; names in lower case.
    """

    session: str | None = None
    tenant: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to an engine. Equal calls are the same request.

    Attributes:
        role: Role that the engine plays.
        purpose: Name of the call in logs and usage records, usually its prompt.
        messages: The conversation.
        sampling: Sampling parameters.
        n: Number of completions, at least 1.
        index: Position of the first completion among its siblings.
        prefix: Start of the assistant turn: token ids and texts, each text tokenized separately; or one text, for engines
            without token ids.
        labels: Return the probability of each label as the first token, instead of text.
        reward: Return the score of the last turn, an assistant's, instead of text.
        schema: JSON Schema that the reply must match, as JSON.
        logprobs: Log probabilities to return, see `Delta`; None: none.
        thinking: False disables reasoning; None: the engine's default.
        resumable: The completion can be truncated and continued at any token boundary. Its deltas have one token each, it
            keeps the stop string at its end, and it is usable if truncated inside its reasoning.
        excluded_stop: Stop strings that a resumable completion excludes.
        visible: A reader acts on each delta as it arrives, for example the client, so that no delta can be withdrawn.
        stream_interval: Maximum tokens combined in one delta.
        routing: Hints for routers and schedulers.
        cache_salt: Isolates the call's part of the prefix cache; None: shared.
        traceparent: W3C trace context of the client's request.
    """

    role: Role
    purpose: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    n: int = 1
    index: int = 0
    prefix: tuple[PrefixPart, ...] | str | None = None
    labels: tuple[str, ...] = ()
    reward: bool = False
    schema: str | None = None
    logprobs: int | None = None
    thinking: bool | None = None
    resumable: bool = False
    excluded_stop: tuple[str, ...] = ()
    visible: bool = False
    stream_interval: int = 1
    routing: Routing = Routing()
    cache_salt: str | None = None
    traceparent: str | None = None

    @property
    def needs(self) -> frozenset[Capability]:
        """Capabilities that an engine needs to serve this call."""
        wanted: dict[Capability, bool] = {
            "prefix": self.prefix is not None,
            "labels": bool(self.labels),
            "reward": self.reward,
            "schema": self.schema is not None,
            "logprobs": self.logprobs is not None,
            "n": self.n > 1,
        }
        return frozenset(name for name, is_needed in wanted.items() if is_needed)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all fields that affect the reply; excludes routing, tracing and delivery."""
        value = asdict(self) | {
            "messages": [message.model_dump(exclude_none=True) for message in self.messages],
            "sampling": self.sampling.model_dump(exclude_none=True),
        }
        delivery = ("visible", "stream_interval", "resumable", "excluded_stop")
        for name in ("routing", "cache_salt", "traceparent", *delivery):
            del value[name]
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Delta:
    """An increment of one of the `n` completions of a call.

    Attributes:
        index: Index of the completion.
        text: Text outside the reasoning.
        reasoning: Text inside the reasoning.
        tokens: Completion tokens in this delta; 0 from engines that count only at the end.
        token_ids: Ids of these tokens, if the engine returns them.
        finish_reason: Set in the last delta of the completion.
        usage: Total usage of the call so far, if the engine reports it. The last report of each count is final.
        labels: Probability of each label.
        logprobs: Natural log probability of each token, if `Call.logprobs` is not None.
        confidences: Confidence of each token, if `Call.logprobs` is k > 0: the negative mean log probability of the k most
            probable tokens at its position (arXiv 2508.15260). At least 0; higher is more confident.
        reward: Score of a reward call.
        tool_calls: Complete tool calls.
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    tokens: int = 0
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: ReportedUsage | None = None
    labels: Mapping[str, float] | None = None
    logprobs: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()
    reward: float | None = None
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """An OpenAI request to forward: its `path` below /v1, raw JSON `body` and `headers`.

    The engine adds those headers of `routing` that the client did not send. An engine over vLLM puts `cache_salt`, the
    secret of one of several tenants, into the body.
    """

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    routing: Routing = Routing()
    cache_salt: str | None = None


@dataclass(frozen=True, slots=True)
class PlainReply:
    """The reply; iterate `chunks` inside the block of `forward`."""

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: AsyncIterator[bytes]


class Engine(Protocol):
    """A source of completions.

    Attributes:
        name: Name of the engine in the settings.
        model: Name of the served model.
        ready: False until the engine has answered.
        capabilities: Empty until the engine has answered.
        context_window: Maximum tokens of prompt and completion together; None: unknown.
        template_tokens: Upper bound of the tokens that the chat template adds to one message; None: unknown.
        control_tokens: Control tokens of the engine's tokenizer, beyond those of the known model families.
    """

    name: str
    model: str

    @property
    def ready(self) -> bool: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def context_window(self) -> int | None: ...

    @property
    def template_tokens(self) -> int | None: ...

    @property
    def control_tokens(self) -> frozenset[str]: ...

    async def start(self) -> None:
        """Detect the engine's capabilities. Can be repeated until `ready`; never raises EngineError."""

    async def aclose(self) -> None:
        """Release all resources of the engine."""

    def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Yield deltas until each of the `n` completions has a finish reason.

        A completion that reaches the end of the context window before `max_tokens` ends there with "length". Closing the
        generator aborts the request in the engine. Raises EngineError and its subclasses.
        """

    async def count_prompt(self, call: Call) -> int:
        """Return the exact number of prompt tokens. Raises CapabilityMissing without `tokenize`."""

    def forward(self, request: PlainRequest) -> AbstractAsyncContextManager[PlainReply]:
        """Forward an OpenAI request; without a `cache_salt`, byte for byte. Raises EngineUnavailable."""
