"""What vLLM's engine gives back for a request, as deltas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from vllm.outputs import CompletionOutput, RequestOutput

from secondpass.service.engines.openai.wire import confidence
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import FinishReason, Usage

_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
_LEAST_LOGPROB = -9999.0  # as vLLM's endpoint says it, since JSON has no infinity


class Reader:
    """Reads the results of one request: vLLM's outputs in, deltas out."""

    def __init__(self, call: Call, engine: str) -> None:
        self._call, self._engine = call, engine
        self._open = set(range(call.n))
        self._prompt: Usage | None = None
        self._written = 0

    @property
    def is_finished(self) -> bool:
        """Whether every completion has its finish reason."""
        return not self._open

    def read(self, result: RequestOutput) -> Iterator[Delta]:
        """The deltas of one result. Usage is stated with the first and with the last of all."""
        for output in result.outputs:
            reason = self._finish_reason(output.finish_reason)
            ids = tuple(output.token_ids)
            if not (ids or output.text or reason):
                continue
            is_first = self._prompt is None
            if self._prompt is None:
                prompt = len(result.prompt_token_ids or ())
                self._prompt = Usage(prompt, result.num_cached_tokens or 0)
            if reason is not None:
                self._open.discard(output.index)
            self._written += len(ids)
            states_usage = is_first or not self._open
            yield Delta(
                output.index,
                output.text,
                tokens=len(ids),
                token_ids=ids,
                finish_reason=reason,
                usage=self._prompt + Usage(completion=self._written) if states_usage else None,
                logprobs=_logprobs_of(output) if self._call.logprobs is not None else (),
                confidences=_confidences_of(output, self._call.logprobs or 0),
            )

    def finish(self) -> None:
        """Raise StreamInterrupted unless every completion has its finish reason."""
        if self._open:
            raise self._cut(
                f"{len(self._open)} of {self._call.n} completions have no finish reason"
            )

    def _finish_reason(self, reason: str | None) -> FinishReason | None:
        if reason is None:
            return None
        if reason == "error":
            why = "the engine failed while writing"
            raise EngineUnavailable(why, engine=self._engine, role=self._call.role)
        if reason not in _FINISH:
            raise self._cut(f"finish reason {reason!r}")
        return _FINISH[reason]

    def _cut(self, message: str) -> StreamInterrupted:
        return StreamInterrupted(message, engine=self._engine, role=self._call.role)


def _logprobs_of(output: CompletionOutput) -> tuple[float, ...]:
    """Log probabilities (natural) of the written tokens."""
    return tuple(
        max(entry[token].logprob, _LEAST_LOGPROB)
        for token, entry in zip(output.token_ids, output.logprobs or (), strict=True)
    )


def _confidences_of(output: CompletionOutput, k: int) -> tuple[float, ...]:
    """Confidences of the written tokens over the `k` most probable ones; none for `k` 0."""
    if not k:
        return ()
    # A place has the token that was drawn besides the k most probable, if it is not among them.
    return tuple(
        confidence([max(token.logprob, _LEAST_LOGPROB) for token in entry.values()], k)
        for entry in output.logprobs or ()
    )


class ReasoningSplitter:
    """Splits what a call writes into reasoning and text, a parser of vLLM's for each completion."""

    def __init__(self, parsers: Sequence[Any], request: Any, prompt: list[int]) -> None:
        self._parsers, self._request, self._prompt = parsers, request, prompt

    def split(self, delta: Delta) -> Delta:
        """`delta` with its text in the place where it belongs; a parser may hold text back."""
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
