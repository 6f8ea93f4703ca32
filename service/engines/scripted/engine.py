"""An engine that follows a script: for tests, faults and benchmarks, and to try the service without a model.

Deterministic: what a call gets depends on the call alone. It counts tokens as words-with-their-space, injects
latency, faults, cut streams and garbage, and keeps the books that tests check (`running`, `delivered`).
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, NamedTuple

import anyio

from secondpass.service.engines.scripted.chat import reply_to
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import Capability, FinishReason, Usage

KEPT_CALLS = 10_000
KEPT_TOKENS = 100_000
"""What a served fake remembers at most: its last calls, and tokens by their ids."""

CONFIDENCE = 8.0
"""Of every token of which the script says nothing else."""

Fault = Literal["refuse", "unavailable", "interrupt"]

_TOKEN = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the script says for one completion: its text, and how it goes wrong.

    `refuse` and `unavailable` fail before the first token, `cut` ends the stream after half of them without a
    finish reason. `labels` are the probabilities that a label call reads, `reward` is what a reward call gets, and
    `confidence` that of every token, where it is asked for.
    """

    text: str
    fault: Fault | None = None
    labels: Mapping[str, float] = field(default_factory=dict)
    reward: float | None = None
    confidence: float = CONFIDENCE


Script = Callable[[Call, int], Reply]
"""(call, position of the completion among its siblings) -> its reply"""


def tokens_of(text: str) -> list[str]:
    """The engine's tokens: words with the space before them. Joined they are the text again."""
    return _TOKEN.findall(text)


def token_id(token: str) -> int:
    """A stable id for a token, within 31 bits."""
    return int.from_bytes(hashlib.blake2s(token.encode(), digest_size=4).digest()) >> 1


def arithmetic(call: Call, index: int) -> Reply:
    """The default script: three of four completions agree that the answer is 42, and that is what is rewarded."""
    answer = 41 if (index + (call.sampling.seed or 0)) % 4 == 3 else 42
    text = f"Let me work it out step by step.\n\nThat makes {answer}. The answer is \\boxed{{{answer}}}."
    others = 0.3 / max(1, len(call.labels) - 1)
    return Reply(
        text,
        labels={label: others if i else 0.6 for i, label in enumerate(call.labels)},
        reward=1.0 if "42" in call.messages[-1].text else 0.0,
    )


class _Written(NamedTuple):
    """One completion: its tokens, what each adds to the text, and why it ends."""

    tokens: list[str]
    texts: list[str]
    reason: FinishReason


def _first_stop(tokens: Sequence[str], stops: Sequence[str]) -> tuple[int, int, int] | None:
    """The stop string that is completed first: tokens up to its end, and where it begins and ends in the text.

    As in vLLM: of several that end at the same place the one named first.
    """
    text = "".join(tokens)
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    if not found:
        return None
    end, begin = min(found, key=lambda each: each[0])
    ends = accumulate(len(token) for token in tokens)
    return next(count for count, at in enumerate(ends, 1) if at >= end), begin, end


def _truncated(tokens: Sequence[str], end: int) -> list[str]:
    """The text of each token, as far as it is before `end`."""
    begins = accumulate((len(token) for token in tokens[:-1]), initial=0)
    return [token[: max(0, end - begin)] for token, begin in zip(tokens, begins, strict=True)]


@dataclass
class ScriptedEngine:
    """An `Engine` that replies by `script`.

    `first_token` and `per_token` are seconds of latency, shared by all sequences of a call as a batch would.
    `tokens_per_delta` gathers tokens. With `rate` (deltas a second, over all calls) and both latencies 0 it paces
    itself to stand for a GPU that serves up to 256 sequences.
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
            ("prefix", "labels", "tokenize", "schema", "logprobs", "seed", "token_counts", "reward")
        )
        return every - self.lacking

    @property
    def context_window(self) -> int | None:
        return self.window

    async def start(self) -> None:
        """Ready at once."""

    async def aclose(self) -> None:
        """Nothing to free."""

    async def count_prompt(self, call: Call) -> int:
        """Tokens of all message texts, and four a message."""
        pieces = call.prefix if isinstance(call.prefix, tuple) else (call.prefix or "",)
        held = sum(1 if isinstance(piece, int) else len(tokens_of(piece)) for piece in pieces)
        return sum(len(tokens_of(m.text)) + 4 for m in call.messages) + held

    def held_by(self, call: Call) -> str:
        """The text of the call's prefix."""
        pieces = call.prefix if isinstance(call.prefix, tuple) else (call.prefix or "",)
        return "".join(
            self._vocabulary.get(piece, "") if isinstance(piece, int) else piece for piece in pieces
        )

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Deltas of all `n` completions in turn, token by token, as a batch would give them."""
        key = self._served
        self._served += 1
        self.calls.append(call)
        del self.calls[:-KEPT_CALLS]
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
                f"the prompt has {prompt} tokens, the model's context holds {self.window}",
                engine=self.name,
                role=call.role,
            )
        replies = [self.script(call, call.index + i) for i in range(call.n)]
        for reply in replies:
            self._fail_early(call, reply)
        if call.labels:
            self.delivered += 1
            read = {label: replies[0].labels.get(label, 0.0) for label in call.labels}
            usage = Usage(prompt=prompt, completion=1)
            yield Delta(tokens=1, labels=read, finish_reason="stop", usage=usage)
            return
        if call.reward:
            if replies[0].fault == "interrupt":
                raise StreamInterrupted("cut by the script", engine=self.name, role=call.role)
            yield Delta(reward=replies[0].reward, finish_reason="stop", usage=Usage(prompt=prompt))
            return
        async with aclosing(self._write(call, replies, prompt)) as deltas:
            async for delta in deltas:
                yield delta

    def _fail_early(self, call: Call, reply: Reply) -> None:
        if reply.fault == "refuse":
            raise CallRejected("refused by the script", engine=self.name, role=call.role)
        if reply.fault == "unavailable":
            raise EngineUnavailable("unavailable by the script", engine=self.name, role=call.role)

    async def _write(self, call: Call, replies: list[Reply], prompt: int) -> AsyncGenerator[Delta]:
        room = None if self.window is None else self.window - prompt
        written = [self._remaining(call, reply.text, room) for reply in replies]
        delivered = 0
        width = self.tokens_per_delta
        longest = max(len(each.tokens) for each in written)
        for at in range(0, max(longest, 1), width):
            await self._pace(call)
            for index, (tokens, texts, reason) in enumerate(written):
                if at and at >= len(tokens):
                    continue
                if replies[index].fault == "interrupt" and at >= len(tokens) / 2:
                    raise StreamInterrupted("cut by the script", engine=self.name, role=call.role)
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
                    usage=Usage(prompt=prompt) if not at and not index else None,
                )
        yield Delta(usage=Usage(prompt=prompt, completion=delivered))

    def _remaining(self, call: Call, text: str, room: int | None) -> _Written:
        """What is written after the call's prefix, up to a stop string or the cap."""
        tokens = tokens_of(text.removeprefix(self.held_by(call)))
        texts = tokens
        if (stop := _first_stop(tokens, call.sampling.stop or ())) is not None:
            count, begin, end = stop
            tokens = tokens[:count]
            texts = _truncated(tokens, end if call.resumable else begin)
        caps = [cap for cap in (call.sampling.max_tokens, room) if cap is not None]
        if caps and len(tokens) > (cap := min(caps)):
            # Text that was held back because it may begin a stop string is returned after all.
            return _Written(tokens[:cap], tokens[:cap], "length")
        return _Written(tokens, texts, "stop")

    def _id(self, token: str) -> int:
        number = token_id(token)
        self._vocabulary[number] = token
        self._vocabulary.move_to_end(number)
        if len(self._vocabulary) > KEPT_TOKENS:
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
        """A plain chat reply by the script, whole or as a stream."""
        return reply_to(self, request)
