"""The Engine protocol, the calls it serves and the deltas it yields."""

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
    Role,
    Sampling,
    ToolCall,
    Usage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Hints for the routers and schedulers before an engine; they never change what it replies.

    Calls of one `session` share the beginning of their prompts, so one replica should serve them. Fair queues count by
    `tenant`. `headers` are the client's own, with names in lower case, of a client that may send them.
    """

    session: str | None = None
    tenant: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to an engine. A value: equal calls are the same request.

    `prefix` is what the assistant turn already holds: token ids, and texts among them, each of which is tokenized alone;
    or one text, for engines without token ids. `resumable` says that the completion may be truncated at and continued
    from any token boundary: its deltas come token by token, it keeps a stop string at its end, and one that is truncated
    inside its reasoning is usable. `excluded_stop` are stop strings that such a completion drops all the same.
    `labels`, when given, asks for the probability of each label as the first token instead of for text. `reward` asks
    for one number instead: how good the conversation's last turn is, which is an assistant's; nothing is written.
    `index` is the position of the first of the `n` completions among its siblings. `visible` says that
    somebody acts on the deltas as they come (the client reads them, say), so that none can be taken back. `stream_interval` is how many tokens may be gathered in a delta.
    `traceparent` is the W3C trace context of the request that the call serves.
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
        """The capabilities without which an engine cannot serve this call."""
        wanted: dict[Capability, bool] = {
            "prefix": self.prefix is not None,
            "labels": bool(self.labels),
            "reward": self.reward,
            "schema": self.schema is not None,
            "logprobs": self.logprobs is not None,
        }
        return frozenset(name for name, is_needed in wanted.items() if is_needed)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over everything that decides the reply; who asked, and how it is delivered, is not."""
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
    """What an engine has to say next about one of the `n` completions of a call.

    `tokens` counts the completion tokens in this delta (0 from engines that count only at the end). `usage` is
    the total of the whole call up to here, whenever the engine states it; the last one stands. `labels` maps each
    label to its probability; `reward` is the score of a reward call. `tool_calls` are calls that are complete.

    With `Call.logprobs` = k > 0 there is a log probability and a confidence for each token of the delta. A token's
    confidence is minus the mean log probability (natural) of the k most probable tokens at its place, whichever was
    drawn: 0 or more, and the larger the surer (arXiv 2508.15260). With k = 0 there are log probabilities only.
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    tokens: int = 0
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    labels: Mapping[str, float] | None = None
    logprobs: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()
    reward: float | None = None
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """An OpenAI request to forward: `path` below /v1, the raw JSON `body`, and its `headers`.

    An engine adds the headers of `routing` that the client did not send.
    """

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    routing: Routing = Routing()


@dataclass(frozen=True, slots=True)
class PlainReply:
    """The untouched reply: `chunks` must be iterated within the block that `forward` opened."""

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: AsyncIterator[bytes]


class Engine(Protocol):
    """Where completions come from.

    `model` is the name that the engine serves. `capabilities` is empty, and `ready` false, until the engine has
    answered; `context_window` is the most tokens that prompt and completion may hold together (None: unknown).
    """

    name: str
    model: str

    @property
    def ready(self) -> bool: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def context_window(self) -> int | None: ...

    async def start(self) -> None:
        """Find out what the engine can do. May be called again until `ready`; never raises EngineError."""

    async def aclose(self) -> None:
        """Free everything the engine holds."""

    def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Yield deltas until each of the `n` completions has its finish reason.

        A `max_tokens` past the end of the context window ends there, with "length".
        Closing the generator aborts the request in the engine. Raises EngineError and its kinds.
        """

    async def count_prompt(self, call: Call) -> int:
        """Prompt tokens of `call`, exactly. Raises CapabilityMissing without `tokenize`."""

    def forward(self, request: PlainRequest) -> AbstractAsyncContextManager[PlainReply]:
        """Hand an OpenAI request on, byte for byte. Raises EngineUnavailable when nothing answered."""
