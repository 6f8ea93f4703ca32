"""Conversion of vLLM's request outputs to deltas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from vllm.outputs import CompletionOutput, RequestOutput

from secondpass.service.engines.openai.logprobs import MIN_LOGPROB, confidence
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import FinishReason, ReportedUsage

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "repetition": "repetition",
}


class ResultReader:
    """Reader of the outputs of one request to `engine`."""

    def __init__(self, call: Call, engine: str) -> None:
        self._call, self._engine = call, engine
        self._unfinished = set(range(call.n))
        self._usage: ReportedUsage | None = None
        self._completion_tokens = 0

    @property
    def is_finished(self) -> bool:
        """True if every completion has its finish reason."""
        return not self._unfinished

    def read(self, result: RequestOutput) -> Iterator[Delta]:
        """Yield the deltas of one result. The first delta and those after the last finish have usage."""
        for output in result.outputs:
            reason = self._finish_reason(output.finish_reason)
            ids = tuple(output.token_ids)
            if not (ids or output.text or reason):
                continue
            if reason is not None:
                self._unfinished.discard(output.index)
            self._completion_tokens += len(ids)
            has_usage = self._usage is None or not self._unfinished
            if self._usage is None:
                prompt = len(result.prompt_token_ids or ())
                self._usage = ReportedUsage(prompt, result.num_cached_tokens or 0)
            self._usage = replace(self._usage, completion=self._completion_tokens)
            yield Delta(
                output.index,
                output.text,
                tokens=len(ids),
                token_ids=ids,
                finish_reason=reason,
                usage=self._usage if has_usage else None,
                logprobs=self._logprobs_of(output) if self._call.logprobs is not None else (),
                confidences=self._confidences_of(output, self._call.logprobs or 0),
            )

    def finish(self) -> None:
        """Raise StreamInterrupted unless every completion has its finish reason."""
        if self._unfinished:
            missing = len(self._unfinished)
            raise self._interrupted(
                f"{missing} of {self._call.n} completions have no finish reason"
            )

    def _finish_reason(self, reason: str | None) -> FinishReason | None:
        if reason is None:
            return None
        if reason == "error":
            message = f"engine {self._engine!r} failed during generation"
            raise EngineUnavailable(message, engine=self._engine, role=self._call.role)
        if reason not in _FINISH:
            raise self._interrupted(f"unexpected finish reason {reason!r}")
        return _FINISH[reason]

    def _logprobs_of(self, output: CompletionOutput) -> tuple[float, ...]:
        """Return the natural log probabilities of the generated tokens."""
        return tuple(
            self._number(entry[token].logprob)
            for token, entry in zip(output.token_ids, output.logprobs or (), strict=True)
        )

    def _confidences_of(self, output: CompletionOutput, k: int) -> tuple[float, ...]:
        """Return the confidences of the generated tokens over the `k` most probable ones; empty for k=0."""
        if not k:
            return ()
        # An entry contains the sampled token in addition to the k most probable, if it is not among them.
        return tuple(
            confidence([self._number(token.logprob) for token in entry.values()], k)
            for entry in output.logprobs or ()
        )

    def _number(self, logprob: float) -> float:
        """Return a log probability of at least MIN_LOGPROB. Raises StreamInterrupted for NaN."""
        if math.isnan(logprob):
            raise self._interrupted("a log probability is not a number")
        return max(logprob, MIN_LOGPROB)

    def _interrupted(self, message: str) -> StreamInterrupted:
        return StreamInterrupted(message, engine=self._engine, role=self._call.role)


class ReasoningSplitter:
    """Splits the output of a call into reasoning and text, with one vLLM parser per completion."""

    def __init__(self, parsers: Sequence[Any], request: Any, prompt: list[int]) -> None:
        self._parsers, self._request, self._prompt = parsers, request, prompt

    def split(self, delta: Delta) -> Delta:
        """Return `delta` with its text split into text and reasoning; a parser may buffer text."""
        message = self._parsers[delta.index].parse_delta(
            delta_text=delta.text,
            delta_token_ids=list(delta.token_ids),
            request=self._request,
            prompt_token_ids=self._prompt,
            finished=delta.finish_reason is not None,
        )
        if message is None:
            return replace(delta, text="")
        return replace(delta, text=message.content or "", reasoning=message.reasoning or "")
