"""Scripted fake engine: for tests, fault injection and benchmarks, and for use without a model.

The reply to a call depends on the call alone. A token is a word with the whitespace before it. Latency and faults can
be injected, and tests can inspect `calls`, `running` and `delivered`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, NamedTuple

import anyio

from secondpass.service.engines.scripted.chat import reply_to
from secondpass.service.engines.scripted.tokens import token_id, tokens_of
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import Capability, FinishReason, ReportedUsage

MAX_KEPT_CALLS = 10_000
MAX_KEPT_TOKENS = 100_000
"""Most calls, and tokens by id, that an engine keeps; the oldest are dropped."""

CONFIDENCE = 8.0
"""Default confidence of a token."""

Fault = Literal["refuse", "unavailable", "interrupt"]


@dataclass(frozen=True, slots=True)
class Reply:
    """Scripted reply for one completion.

    Attributes:
        text: text of the completion, including the prefix of a continuation.
        fault: fault to inject. "refuse" and "unavailable" fail before the first token; "interrupt" ends the stream
            after half of the tokens without a finish reason.
        labels: label probabilities for a label read.
        reward: score for a reward call.
        confidence: confidence of each token, for calls with log probabilities.
    """

    text: str
    fault: Fault | None = None
    labels: Mapping[str, float] = field(default_factory=dict)
    reward: float | None = None
    confidence: float = CONFIDENCE


Script = Callable[[Call, int], Reply]
"""Function from a call and the index of a completion among its siblings to the completion's reply."""


def arithmetic(call: Call, index: int) -> Reply:
    """The default script: three of four completions answer 42, and an answer of 42 is rewarded."""
    answer = 41 if (index + (call.sampling.seed or 0)) % 4 == 3 else 42
    text = f"Let me work it out step by step.\n\nThat makes {answer}. The answer is \\boxed{{{answer}}}."
    others = 0.3 / max(1, len(call.labels) - 1)
    return Reply(
        text,
        labels={label: others if i else 0.6 for i, label in enumerate(call.labels)},
        reward=1.0 if "42" in call.messages[-1].text else 0.0,
    )


class _Generation(NamedTuple):
    """Tokens to generate for one completion, the text that each adds, and the finish reason."""

    tokens: list[str]
    texts: list[str]
    reason: FinishReason


def _first_stop(tokens: Sequence[str], stops: Sequence[str]) -> tuple[int, int, int] | None:
    """Find the stop string that ends first; of several that end together the first in `stops`, as in vLLM.

    Returns:
        Number of tokens up to its end, and its start and end in the text; None if none occurs.
    """
    text = "".join(tokens)
    matches = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    if not matches:
        return None
    end, start = min(matches, key=lambda each: each[0])
    ends = accumulate(len(token) for token in tokens)
    return next(count for count, at in enumerate(ends, 1) if at >= end), start, end


def _truncated(tokens: Sequence[str], end: int) -> list[str]:
    """Return the part of each token before the text offset `end`."""
    starts = accumulate((len(token) for token in tokens[:-1]), initial=0)
    return [token[: max(0, end - start)] for token, start in zip(tokens, starts, strict=True)]


@dataclass
class ScriptedEngine:
    """An `Engine` that replies by `script`.

    Attributes:
        script: function that returns the reply for each completion.
        name: name of the engine.
        model: name of the model.
        first_token: seconds before the first token of a call.
        per_token: seconds for each further delta, shared by all completions of a call, as in a batch.
        tokens_per_delta: most tokens in a delta.
        rate: deltas per second over all calls, in place of `per_token`. It simulates a GPU that serves up to 256
            sequences.
        window: context window in tokens; None for no limit.
        lacking: capabilities to withhold.
        control_tokens: control tokens of its tokenizer, beyond those of the known model families.
        running: calls in progress.
        calls: most recent calls, at most MAX_KEPT_CALLS.
        delivered: tokens generated so far.
    """

    script: Script = arithmetic
    name: str = "scripted"
    model: str = "scripted"
    first_token: float = 0.0
    per_token: float = 0.0
    tokens_per_delta: int = 1
    rate: float | None = None
    window: int | None = 32_768
    lacking: frozenset[Capability] = frozenset()
    control_tokens: frozenset[str] = frozenset()
    running: dict[int, Call] = field(default_factory=dict, init=False)
    calls: list[Call] = field(default_factory=list, init=False)
    delivered: int = field(default=0, init=False)
    _due: float = field(default=0.0, init=False)
    _served: int = field(default=0, init=False)
    _vocabulary: OrderedDict[int, str] = field(default_factory=OrderedDict, init=False)

    @property
    def ready(self) -> bool:
        return True

    @property
    def why_not_ready(self) -> str | None:
        return None

    @property
    def capabilities(self) -> frozenset[Capability]:
        every: frozenset[Capability] = frozenset(
            (
                "prefix",
                "labels",
                "tokenize",
                "schema",
                "logprobs",
                "seed",
                "token_counts",
                "n",
                "reward",
            )
        )
        return every - self.lacking

    @property
    def context_window(self) -> int | None:
        return self.window

    @property
    def template_tokens(self) -> int | None:
        """Return None: prompts are counted exactly."""
        return None

    async def start(self) -> None:
        """No-op: the engine is always ready."""

    async def aclose(self) -> None:
        """No-op."""

    async def count_prompt(self, call: Call) -> int:
        """Return the tokens of all messages, plus four per message, plus those of the prefix."""
        parts = call.prefix if isinstance(call.prefix, tuple) else (call.prefix or "",)
        prefix = sum(1 if isinstance(part, int) else len(tokens_of(part)) for part in parts)
        return sum(len(tokens_of(m.text)) + 4 for m in call.messages) + prefix

    def prefix_text(self, call: Call) -> str:
        """Return the text of the call's prefix."""
        parts = call.prefix if isinstance(call.prefix, tuple) else (call.prefix or "",)
        return "".join(
            self._vocabulary.get(part, "") if isinstance(part, int) else part for part in parts
        )

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Yield the deltas of all `n` completions, interleaved as in a batch."""
        key = self._served
        self._served += 1
        self.calls.append(call)
        del self.calls[:-MAX_KEPT_CALLS]
        self.running[key] = call
        try:
            async with aclosing(self._reply(call)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            del self.running[key]

    async def _reply(self, call: Call) -> AsyncGenerator[Delta]:
        await anyio.sleep(self.first_token)
        prompt = await self.count_prompt(call)
        if self.window is not None and prompt >= self.window:
            raise CallRejected(
                f"the prompt has {prompt} tokens, and the model's context holds {self.window}: "
                "shorten the messages",
                engine=self.name,
                role=call.role,
            )
        replies = [self.script(call, call.index + i) for i in range(call.n)]
        for reply in replies:
            self._fail_early(call, reply)
        if call.labels:
            self.delivered += 1
            read = {label: replies[0].labels.get(label, 0.0) for label in call.labels}
            usage = ReportedUsage(prompt=prompt, completion=1)
            yield Delta(tokens=1, labels=read, finish_reason="stop", usage=usage)
            return
        if call.reward:
            if replies[0].fault == "interrupt":
                raise self._interrupted(call)
            usage = ReportedUsage(prompt=prompt, completion=0)
            yield Delta(reward=replies[0].reward, finish_reason="stop", usage=usage)
            return
        async with aclosing(self._generate(call, replies, prompt)) as deltas:
            async for delta in deltas:
                yield delta

    def _fail_early(self, call: Call, reply: Reply) -> None:
        if reply.fault == "refuse":
            raise CallRejected("refused by the script", engine=self.name, role=call.role)
        if reply.fault == "unavailable":
            raise EngineUnavailable(
                "made unavailable by the script", engine=self.name, role=call.role
            )

    def _interrupted(self, call: Call) -> StreamInterrupted:
        return StreamInterrupted("interrupted by the script", engine=self.name, role=call.role)

    async def _generate(
        self, call: Call, replies: list[Reply], prompt: int
    ) -> AsyncGenerator[Delta]:
        room = None if self.window is None else self.window - prompt
        generations = [self._generation(call, reply.text, room) for reply in replies]
        first = ReportedUsage(prompt=prompt, completion=0)
        delivered = 0
        width = self.tokens_per_delta
        longest = max(len(each.tokens) for each in generations)
        for at in range(0, max(longest, 1), width):
            await self._pace(call)
            for index, (tokens, texts, reason) in enumerate(generations):
                if at and at >= len(tokens):
                    continue
                if replies[index].fault == "interrupt" and at >= len(tokens) / 2:
                    raise self._interrupted(call)
                now = tokens[at : at + width]
                delivered += len(now)
                self.delivered += len(now)
                yield Delta(
                    index=index,
                    text="".join(texts[at : at + width]),
                    tokens=len(now) if "token_counts" in self.capabilities else 0,
                    token_ids=tuple(self._id(token) for token in now),
                    logprobs=(-0.1,) * len(now) if call.logprobs is not None else (),
                    confidences=(replies[index].confidence,) * len(now) if call.logprobs else (),
                    finish_reason=reason if at + width >= len(tokens) else None,
                    usage=first if not at and not index else None,
                )
        yield Delta(usage=ReportedUsage(prompt=prompt, completion=delivered))

    def _generation(self, call: Call, text: str, room: int | None) -> _Generation:
        """Return the part of `text` after the call's prefix, up to a stop string or a token limit.

        `room` is the number of tokens left in the context window; None for no limit.
        """
        tokens = tokens_of(text.removeprefix(self.prefix_text(call)))
        texts = tokens
        if (stop := _first_stop(tokens, call.sampling.stop or ())) is not None:
            count, start, end = stop
            tokens = tokens[:count]
            texts = _truncated(tokens, end if call.resumable else start)
        limits = [limit for limit in (call.sampling.max_tokens, room) if limit is not None]
        if limits and len(tokens) > (limit := min(limits)):
            # The stop string is incomplete, so its beginning is returned as text.
            return _Generation(tokens[:limit], tokens[:limit], "length")
        return _Generation(tokens, texts, "stop")

    def _id(self, token: str) -> int:
        number = token_id(token)
        self._vocabulary[number] = token
        self._vocabulary.move_to_end(number)
        if len(self._vocabulary) > MAX_KEPT_TOKENS:
            self._vocabulary.popitem(last=False)
        return number

    async def _pace(self, call: Call) -> None:
        if self.rate is None:
            await anyio.sleep(self.per_token)
            return
        now = anyio.current_time()
        self._due = max(self._due, now - 0.05) + call.n / self.rate
        if self._due > now:
            await anyio.sleep(self._due - now)
        else:
            await anyio.lowlevel.checkpoint()

    def forward(self, request: PlainRequest) -> AbstractAsyncContextManager[PlainReply]:
        """Return the scripted reply to a chat request, as JSON or as a stream."""
        return reply_to(self, request)
