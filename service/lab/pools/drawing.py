"""Draw one call from an engine and record everything that a replay needs."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field

import anyio

from secondpass.service.calls.admission import rank_of
from secondpass.service.calls.upstream import Upstream
from secondpass.service.lab.pools.format import DIGITS, Sample, place_of
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import StreamInterrupted
from secondpass.strategies.api.values import FinishReason, ReportedUsage


@dataclass
class _TokenText:
    """A text and the number of characters that arrived with each token."""

    texts: list[str] = field(default_factory=list)
    chars: list[int] = field(default_factory=list)
    pending: int = 0

    def add(self, text: str, tokens: int) -> None:
        """Add a delta; its text counts for its last token, else for the previous token, else for the first."""
        self.texts.append(text)
        if tokens:
            self.chars += [0] * tokens
            self.chars[-1] += len(text) + self.pending
            self.pending = 0
        elif self.chars:
            self.chars[-1] += len(text)
        else:
            self.pending += len(text)

    @property
    def counts(self) -> tuple[int, ...]:
        """Characters per token; empty without text."""
        return tuple(self.chars) if any(self.chars) else ()


@dataclass
class _Completion:
    """One partial completion."""

    text: _TokenText = field(default_factory=_TokenText)
    reasoning: _TokenText = field(default_factory=_TokenText)
    tokens: int = 0
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    labels: dict[str, float] | None = None
    reward: float | None = None
    finish_reason: FinishReason | None = None
    first: float | None = None
    last: float = 0.0

    def add(self, delta: Delta, now: float) -> None:
        self.text.add(delta.text, delta.tokens)
        self.reasoning.add(delta.reasoning, delta.tokens)
        self.tokens += delta.tokens
        self.token_ids += delta.token_ids
        self.logprobs += (round(value, DIGITS) for value in delta.logprobs)
        self.confidences += (round(value, DIGITS) for value in delta.confidences)
        if delta.labels is not None:
            self.labels = dict(delta.labels)
        if delta.reward is not None:
            self.reward = delta.reward
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.last = now
        if self.first is None and (delta.tokens or delta.text or delta.reasoning):
            self.first = now


class CallRecorder:
    """Recorder of the deltas of `call`; `samples` are its completions once the stream has ended.

    `question` is the id stored with them.
    """

    def __init__(self, call: Call, question: str | None = None) -> None:
        self._call, self._question = call, question
        self._started = anyio.current_time()
        self._usage = ReportedUsage()
        self._completions = [_Completion() for _ in range(call.n)]

    def add(self, delta: Delta) -> None:
        """Record a delta of the call."""
        if delta.usage is not None:
            self._usage = self._usage.updated(delta.usage)
        self._completions[delta.index].add(delta, anyio.current_time())

    @property
    def samples(self) -> list[Sample]:
        """All completions. Raises StreamInterrupted if one has no finish reason."""
        return [self._sample(i, completion) for i, completion in enumerate(self._completions)]

    def _sample(self, i: int, completion: _Completion) -> Sample:
        if completion.finish_reason is None:
            raise StreamInterrupted(
                "the stream ended without a finish reason", role=self._call.role
            )
        key, index = place_of(self._call, i)
        seed = self._call.sampling.seed
        is_single = self._call.n == 1
        return Sample(
            key=key,
            index=index,
            question=self._question,
            role=self._call.role,
            purpose=self._call.purpose,
            text="".join(completion.text.texts),
            reasoning="".join(completion.reasoning.texts),
            finish_reason=completion.finish_reason,
            tokens=completion.tokens or (is_single and self._usage.completion) or 0,
            token_ids=tuple(completion.token_ids),
            chars=completion.text.counts,
            reasoning_chars=completion.reasoning.counts,
            logprobs=tuple(completion.logprobs),
            confidences=tuple(completion.confidences),
            labels=completion.labels,
            reward=completion.reward,
            prompt=self._usage.prompt or 0,
            cached=self._usage.cached,
            max_tokens=self._call.sampling.max_tokens,
            seed=None if seed is None else seed + i,
            first_seconds=round((completion.first or completion.last) - self._started, 3),
            seconds=round(completion.last - self._started, 3),
        )


async def draw(upstream: Upstream, call: Call, question: str | None = None) -> list[Sample]:
    """Make the call with retries and return its completions.

    Times are those of the last attempt, from its admission on. Raises EngineError.
    """

    async def attempt(_: int) -> list[Sample]:
        async with upstream.slot(rank_of(call)):
            drawing = CallRecorder(call, question)
            async with aclosing(upstream.engine.stream(call)) as deltas:
                async for delta in deltas:
                    drawing.add(delta)
        return drawing.samples

    return await upstream.retries.run(attempt)
