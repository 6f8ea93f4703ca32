"""Drawing one call from an engine, so that all of it can be replayed later."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field

import anyio

from secondpass.service.calls.admission import rank_of
from secondpass.service.calls.upstream import Upstream
from secondpass.service.lab.pools.format import DIGITS, Sample, place_of
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import StreamInterrupted
from secondpass.strategies.api.values import FinishReason, Usage


@dataclass
class _Spread:
    """How the characters of a text spread over the tokens that they were told with."""

    pieces: list[str] = field(default_factory=list)
    chars: list[int] = field(default_factory=list)
    held: int = 0

    def add(self, text: str, tokens: int) -> None:
        """A text counts for the last token of its delta; without any, for the token before it, or the first."""
        self.pieces.append(text)
        if tokens:
            self.chars += [0] * tokens
            self.chars[-1] += len(text) + self.held
            self.held = 0
        elif self.chars:
            self.chars[-1] += len(text)
        else:
            self.held += len(text)

    @property
    def counts(self) -> tuple[int, ...]:
        """Characters by token; empty where there is no text."""
        return tuple(self.chars) if any(self.chars) else ()


@dataclass
class _Draft:
    """One completion while its deltas come in."""

    text: _Spread = field(default_factory=_Spread)
    reasoning: _Spread = field(default_factory=_Spread)
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
    """Takes down the deltas of `call` as they come; `samples` are its completions once it has ended.

    `question` is the id under which they are filed.
    """

    def __init__(self, call: Call, question: str | None = None) -> None:
        self._call, self._question = call, question
        self._began = anyio.current_time()
        self._usage = Usage()
        self._drafts = [_Draft() for _ in range(call.n)]

    def add(self, delta: Delta) -> None:
        """Take in a delta of the call."""
        self._usage = delta.usage or self._usage
        self._drafts[delta.index].add(delta, anyio.current_time())

    @property
    def samples(self) -> list[Sample]:
        """All completions. Raises StreamInterrupted where one has not ended."""
        return [self._sample(i, draft) for i, draft in enumerate(self._drafts)]

    def _sample(self, i: int, draft: _Draft) -> Sample:
        if draft.finish_reason is None:
            raise StreamInterrupted(
                "the stream ended without a finish reason", role=self._call.role
            )
        key, index = place_of(self._call, i)
        seed = self._call.sampling.seed
        is_alone = self._call.n == 1
        return Sample(
            key=key,
            index=index,
            question=self._question,
            role=self._call.role,
            purpose=self._call.purpose,
            text="".join(draft.text.pieces),
            reasoning="".join(draft.reasoning.pieces),
            finish_reason=draft.finish_reason,
            tokens=draft.tokens or (self._usage.completion if is_alone else 0),
            token_ids=tuple(draft.token_ids),
            chars=draft.text.counts,
            reasoning_chars=draft.reasoning.counts,
            logprobs=tuple(draft.logprobs),
            confidences=tuple(draft.confidences),
            labels=draft.labels,
            reward=draft.reward,
            prompt=self._usage.prompt,
            cached=self._usage.cached,
            max_tokens=self._call.sampling.max_tokens,
            seed=None if seed is None else seed + i,
            first_seconds=round((draft.first or draft.last) - self._began, 3),
            seconds=round(draft.last - self._began, 3),
        )


async def draw(upstream: Upstream, call: Call, question: str | None = None) -> list[Sample]:
    """Make the call, retried where that may succeed, and return its completions.

    Times are those of the last attempt, from its admission on. Raises EngineError and its kinds.
    """

    async def attempt(_: int) -> list[Sample]:
        async with upstream.admission.slot(rank_of(call)):
            drawing = CallRecorder(call, question)
            async with aclosing(upstream.engine.stream(call)) as deltas:
                async for delta in deltas:
                    drawing.add(delta)
        return drawing.samples

    return await upstream.retries.run(attempt)
