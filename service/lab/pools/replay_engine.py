"""A pool behind the shape of an engine: what was recorded is written again, at the pace at which it was.

It sleeps between its deltas. On a `VirtualLoop` that costs nothing, and the loop's time is the recorded one.
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
from secondpass.strategies.api.values import Capability, Usage

_Timed = tuple[float, int, Delta]
"""(seconds since the call began, which completion, what comes then)"""


class ReplayEngine:
    """An `Engine` that has no model: a call that is not in the pool is refused, never guessed at.

    With `shuffle` the samples of each question change their places, by a permutation that depends on it and on the
    question alone (see `SampleOrder`); without one sample i is what was recorded as i. `tokens_per_delta` come at once. What is told of
    a completion is what was recorded, cut where the call's `max_tokens` ends it; see `Pool.find` for what was drawn
    more than once.
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
            raise ValueError("tokens_per_delta must be at least 1")
        self.name, self.model = name, pool.header.model
        self.pool = pool
        self._width = tokens_per_delta
        self._places = SampleOrder(pool, shuffle)

    @property
    def ready(self) -> bool:
        return True

    @property
    def why_not_ready(self) -> str | None:
        """Always ready."""
        return None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What every engine could do that the pool was recorded from."""
        passes = [set(each.capabilities) for each in self.pool.passes]
        could = set.intersection(*passes) if passes else set()
        return frozenset(name for name in get_args(Capability) if name in could)

    @property
    def context_window(self) -> int | None:
        """The smallest that was recorded from."""
        return min(
            (each.context_window for each in self.pool.passes if each.context_window), default=None
        )

    async def start(self) -> None:
        """Ready at once."""

    async def aclose(self) -> None:
        """Nothing to free."""

    async def count_prompt(self, call: Call) -> int:
        """Prompt tokens as they were recorded. Raises CallRejected for a call that is not in the pool."""
        return self.find(call)[0].prompt

    def forward(self, request: PlainRequest) -> AbstractAsyncContextManager[PlainReply]:
        """Raises EngineUnavailable: plain requests are not recorded."""
        raise EngineUnavailable("a pool answers no plain requests", engine=self.name)

    def find(self, call: Call) -> list[Sample]:
        """The recorded samples that the call asks for. Raises CallRejected, naming what is missing."""
        key = self._key(call)
        return [self._found(call, key, i) for i in range(call.n)]

    def missing_calls(self, call: Call) -> list[Call]:
        """The draws of the call that `find` does not find, each as a call of its own that the pool can file.

        Its index is the pool's own, its seed goes with it, and it has the confidences of all samples in the pool.
        """
        key, wanted = self._key(call), []
        for i in range(call.n):
            try:
                self._found(call, key, i)
            except CallRejected:
                wanted.append(self._alone(call, key, i))
        return wanted

    def _key(self, call: Call) -> str:
        return key_of(call, by_sampling=self.pool.header.sampling is not None)

    def _found(self, call: Call, key: str, i: int) -> Sample:
        index = 0 if is_read(call) else call.index + i
        place, cap = self._places.of(key, index), call.sampling.max_tokens
        sample = self.pool.find(key, place, cap, with_confidences=bool(call.logprobs))
        if sample is None:
            raise self._rejected(call, self._why_missing(call, len(self.pool.indices(key)), index))
        self._check_enough(call, sample)
        return sample

    def _alone(self, call: Call, key: str, i: int) -> Call:
        if is_read(call):
            return replace(call, n=1, index=0)
        place, sampling = self._places.of(key, call.index + i), call.sampling
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
        """The recorded deltas, at their times. Raises CallRejected for a call that is not in the pool."""
        samples = self.find(call)
        began = anyio.current_time()
        timed = sorted(
            (each for i, sample in enumerate(samples) for each in self._timed(call, i, sample)),
            key=lambda each: each[:2],
        )
        usage = Usage(samples[0].prompt, samples[0].cached)
        written = 0
        for number, (at, _, delta) in enumerate(timed):
            await anyio.sleep(max(0.0, began + at - anyio.current_time()))
            written += delta.tokens
            if number in (0, len(timed) - 1):
                delta = replace(delta, usage=usage + Usage(completion=written))  # noqa: PLW2901
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
            # An engine that counts no tokens: nothing is known of how the text came.
            reason, text = sample.finish_reason, sample.text
            yield (
                sample.seconds,
                index,
                Delta(index, text, sample.reasoning, finish_reason=reason),
            )
            return
        width = 1 if call.resumable else self._width  # as an engine tells it, place by place
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
            text=_piece(sample.text, sample.chars, first, last, is_whole=whole and is_last),
            reasoning=_piece(
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
            wanted = "as many as it takes" if cap is None else f"up to {cap}"
            was = f"was cut at {sample.max_tokens} tokens, not {wanted}"
            if not is_capped(sample):
                was = f"has no record of its single tokens, so it cannot be cut at {cap}"
            raise self._rejected(call, f"sample {sample.index} {was}")
        if call.logprobs and call.logprobs != self.pool.header.logprobs:
            recorded = self.pool.header.logprobs
            raise self._rejected(
                call, f"confidences are over {recorded} alternatives, not over {call.logprobs}"
            )
        if call.logprobs and not has_confidences(sample):
            raise self._rejected(call, f"sample {sample.index} was recorded without confidences")

    def _why_missing(self, call: Call, recorded: int, index: int) -> str:
        what = f"{call.purpose!r} of the {call.role}"
        if recorded:
            return f"{what}: there is no sample {index} of it, only {recorded} were recorded"
        others = {
            str(distribution(self.pool.header.sampling or call.sampling))
            for asked in self.pool.questions.values()
            if asked.messages == call.messages and call.prefix is None and not is_read(call)
        }
        if others:
            sampling = distribution(call.sampling)
            return f"{what}: recorded with sampling {', '.join(others)}, not {sampling}"
        ends = call.messages[-1].text[:60] if call.messages else ""
        return f"{what} was not recorded; its conversation ends in {ends!r}"

    def _rejected(self, call: Call, why: str) -> CallRejected:
        return CallRejected(f"not in the pool: {why}", engine=self.name, role=call.role)


def _piece(text: str, chars: tuple[int, ...], first: int, last: int, *, is_whole: bool) -> str:
    """The text of tokens `first` to `last`; without counts all of it comes with the last one."""
    if not chars:
        return text if is_whole else ""
    begin = sum(chars[:first])
    return text[begin : begin + sum(chars[first:last])]


def _time_of(sample: Sample, written: int) -> float:
    """When so many tokens were there: the first at its time, the others evenly up to the end."""
    if sample.tokens == 1:
        return sample.seconds
    share = (written - 1) / (sample.tokens - 1)
    return sample.first_seconds + share * (sample.seconds - sample.first_seconds)
