"""Engine that serves a pool: recorded completions are streamed again at their recorded speed.

It sleeps between deltas. On a `VirtualLoop` this takes no real time, and the loop's clock shows the recorded times.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import get_args

import anyio

from secondpass.service.lab.pools.format import Sample, distribution, is_read, key_of
from secondpass.service.lab.pools.pool import Pool, has_confidences, is_capped, is_enough
from secondpass.service.lab.pools.sample_order import SampleOrder
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable
from secondpass.strategies.api.values import Capability, ReportedUsage

_Timed = tuple[float, int, Delta]
"""Seconds since the start of the call, index of the completion, and delta."""


class ReplayEngine:
    """An `Engine` without a model: a call that is not in the pool is rejected.

    `shuffle` permutes the samples of each question; the permutation depends only on it and on the question (see
    `SampleOrder`). Without it, sample i is the one recorded as i. A delta contains `tokens_per_delta` tokens. Completions
    are truncated at the call's `max_tokens`. See `Pool.find` for samples drawn more than once.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        shuffle: int | None = None,
        tokens_per_delta: int = 4,
        name: str = "replay",
    ) -> None:
        if tokens_per_delta < 1:
            raise ValueError(f"tokens_per_delta: must be at least 1, not {tokens_per_delta}")
        self.name, self.model = name, pool.header.model
        self.pool = pool
        self._width = tokens_per_delta
        self._order = SampleOrder(pool, shuffle)

    @property
    def ready(self) -> bool:
        return True

    @property
    def why_not_ready(self) -> str | None:
        """Always ready."""
        return None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities that all engines of the pool's recordings have, and `n`."""
        passes = [set(each.capabilities) for each in self.pool.passes]
        could = set.intersection(*passes) if passes else set()
        return frozenset(name for name in get_args(Capability) if name in could or name == "n")

    @property
    def context_window(self) -> int | None:
        """Smallest context window of the recorded engines, in tokens."""
        return min(
            (each.context_window for each in self.pool.passes if each.context_window), default=None
        )

    @property
    def template_tokens(self) -> int | None:
        """Return None: prompts are counted exactly."""
        return None

    @property
    def control_tokens(self) -> frozenset[str]:
        """Return no tokens: a pool does not record those of its engines."""
        return frozenset()

    async def start(self) -> None:
        """Do nothing: a pool is always ready."""

    async def aclose(self) -> None:
        """Do nothing: there are no resources."""

    async def count_prompt(self, call: Call) -> int:
        """Return the recorded number of prompt tokens. Raises CallRejected for a call that is not in the pool."""
        return self.find(call)[0].prompt

    def forward(self, request: PlainRequest) -> AbstractAsyncContextManager[PlainReply]:
        """Raise EngineUnavailable: forwarded requests are not recorded."""
        raise EngineUnavailable("a pool cannot serve forwarded requests", engine=self.name)

    def find(self, call: Call) -> list[Sample]:
        """Return the recorded samples of the call. Raises CallRejected that describes what is missing."""
        key = self._key(call)
        return [self._found(call, key, i) for i in range(call.n)]

    def missing_calls(self, call: Call) -> list[Call]:
        """Return the missing draws of the call, each as a call of its own that can be recorded.

        Their index and seed are those of the pool, and they request the pool's confidences.
        """
        key, missing = self._key(call), []
        for i in range(call.n):
            try:
                self._found(call, key, i)
            except CallRejected:
                missing.append(self._single_call(call, key, i))
        return missing

    def _key(self, call: Call) -> str:
        return key_of(call, by_sampling=self.pool.header.sampling is not None)

    def _found(self, call: Call, key: str, i: int) -> Sample:
        index = 0 if is_read(call) else call.index + i
        place, cap = self._order.recorded_index(key, index), call.sampling.max_tokens
        sample = self.pool.find(key, place, cap, with_confidences=bool(call.logprobs))
        if sample is None:
            raise self._rejected(call, self._why_missing(call, len(self.pool.indices(key)), index))
        self._check_enough(call, sample)
        return sample

    def _single_call(self, call: Call, key: str, i: int) -> Call:
        if is_read(call):
            return replace(call, n=1, index=0)
        place, sampling = self._order.recorded_index(key, call.index + i), call.sampling
        if sampling.seed is not None:
            seed = {"seed": sampling.seed + place - call.index}
            sampling = sampling.model_copy(update=seed)
        logprobs = call.logprobs or self.pool.header.logprobs
        return replace(
            call,
            n=1,
            index=place,
            sampling=sampling,
            logprobs=call.logprobs if logprobs is None else logprobs,
            visible=False,
            stream_interval=1,
        )

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Stream the recorded deltas at their times. Raises CallRejected for a call that is not in the pool."""
        samples = self.find(call)
        started = anyio.current_time()
        timed = sorted(
            (each for i, sample in enumerate(samples) for each in self._timed(call, i, sample)),
            key=lambda each: each[:2],
        )
        written = 0
        for number, (at, _, delta) in enumerate(timed):
            await anyio.sleep(max(0.0, started + at - anyio.current_time()))
            written += delta.tokens
            if number in (0, len(timed) - 1):
                usage = ReportedUsage(samples[0].prompt, samples[0].cached, written)
                delta = replace(delta, usage=usage)  # noqa: PLW2901
            yield delta

    def _timed(self, call: Call, index: int, sample: Sample) -> Iterator[_Timed]:
        if sample.labels is not None or sample.reward is not None:
            yield (
                sample.seconds,
                index,
                Delta(
                    index=index,
                    tokens=sample.tokens,
                    labels=sample.labels,
                    reward=sample.reward,
                    finish_reason=sample.finish_reason,
                ),
            )
            return
        cap = call.sampling.max_tokens
        end = sample.tokens if cap is None else min(cap, sample.tokens)
        if not sample.tokens:
            # The engine reported no tokens, so the timing of the text is unknown.
            reason, text = sample.finish_reason, sample.text
            yield (
                sample.seconds,
                index,
                Delta(index, text, sample.reasoning, finish_reason=reason),
            )
            return
        width = 1 if call.resumable else self._width  # as engines do: one delta per token boundary
        for first in range(0, end, width):
            last = min(first + width, end)
            yield _time_of(sample, last), index, self._delta(call, index, sample, first, last, end)

    def _delta(
        self, call: Call, index: int, sample: Sample, first: int, last: int, end: int
    ) -> Delta:
        is_last = last == end
        whole = end == sample.tokens
        has_confidences = bool(call.logprobs)
        return Delta(
            index=index,
            text=_text_of(sample.text, sample.chars, first, last, is_whole=whole and is_last),
            reasoning=_text_of(
                sample.reasoning, sample.reasoning_chars, first, last, is_whole=whole and is_last
            ),
            tokens=last - first,
            token_ids=sample.token_ids[first:last],
            logprobs=sample.logprobs[first:last] if call.logprobs is not None else (),
            confidences=sample.confidences[first:last] if has_confidences else (),
            finish_reason=(sample.finish_reason if whole else "length") if is_last else None,
        )

    def _check_enough(self, call: Call, sample: Sample) -> None:
        cap = call.sampling.max_tokens
        if not is_enough(sample, cap):
            needed = "no limit" if cap is None else f"up to {cap} tokens"
            problem = f"was truncated at {sample.max_tokens} tokens; the call allows {needed}"
            if not is_capped(sample):
                problem = f"has no per-token counts, so it cannot be truncated at {cap}"
            raise self._rejected(call, f"sample {sample.index} {problem}")
        if call.logprobs and call.logprobs != self.pool.header.logprobs:
            recorded = self.pool.header.logprobs
            raise self._rejected(
                call, f"confidences were recorded over {recorded} alternatives, not {call.logprobs}"
            )
        if call.logprobs and not has_confidences(sample):
            raise self._rejected(call, f"sample {sample.index} was recorded without confidences")

    def _why_missing(self, call: Call, recorded: int, index: int) -> str:
        what = f"{call.purpose!r} of the {call.role}"
        if recorded:
            return f"{what}: no sample {index}, only {recorded} were recorded"
        others = {
            str(distribution(self.pool.header.sampling or call.sampling))
            for question in self.pool.questions.values()
            if question.messages == call.messages and call.prefix is None and not is_read(call)
        }
        if others:
            sampling = distribution(call.sampling)
            return f"{what}: recorded with sampling {', '.join(others)}, not {sampling}"
        ends = call.messages[-1].text[:60] if call.messages else ""
        return f"{what} was not recorded; its conversation ends in {ends!r}"

    def _rejected(self, call: Call, why: str) -> CallRejected:
        return CallRejected(f"not in the pool: {why}", engine=self.name, role=call.role)


def _text_of(text: str, chars: tuple[int, ...], first: int, last: int, *, is_whole: bool) -> str:
    """Return the text of tokens `first` to `last`; without counts the last delta has all of it."""
    if not chars:
        return text if is_whole else ""
    begin = sum(chars[:first])
    return text[begin : begin + sum(chars[first:last])]


def _time_of(sample: Sample, written: int) -> float:
    """Return the time of the `written`-th token: the first as recorded, the others evenly spaced."""
    if sample.tokens == 1:
        return sample.seconds
    share = (written - 1) / (sample.tokens - 1)
    return sample.first_seconds + share * (sample.seconds - sample.first_seconds)
