"""OpenAI's representation of a run: one chat completion, or its chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from secondpass.service.common.events import (
    AnswerDelta,
    CallFinished,
    CandidateRecorded,
    Event,
    NoteRecorded,
    Trace,
    VerdictRecorded,
)
from secondpass.service.http.chat_schema import ChatRequest
from secondpass.service.http.encoding import dumps
from secondpass.service.http.render import report_document
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies.api.values import SOLVE, Usage

DONE = b"data: [DONE]\n\n"
_MAX_PROGRESS_CHARACTERS = 80


def chat_completion(
    spec: RunSpec, outcome: Outcome, trace: Trace, chat_request: ChatRequest, created: int
) -> dict[str, Any]:
    """Build the chat completion of a run."""
    candidate = outcome.candidate
    choice = {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": candidate.text,
            "refusal": None,
            "annotations": [],
        },
        "logprobs": None,
        "finish_reason": outcome.finish_reason,
    }
    return {
        "id": spec.id,
        "object": "chat.completion",
        "created": created,
        "model": chat_request.model,
        "choices": [choice],
        "usage": usage(outcome, trace),
        "secondpass": report_document(spec, outcome, trace, chat_request.secondpass.trace),
    }


class Chunks:
    """Chunks of one stream: the role, then text as it is generated, then the finish reason."""

    def __init__(self, spec: RunSpec, chat_request: ChatRequest, created: int) -> None:
        self._spec, self._request = spec, chat_request
        self._envelope = {
            "id": spec.id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": chat_request.model,
        }
        self._has_started = False

    def of_event(self, event: Event) -> Iterator[bytes]:
        """Yield the chunks of an event: answer text, and progress if the client requested it."""
        if isinstance(event, AnswerDelta):
            yield from self._delta({"content": event.text})
        elif self._request.secondpass.progress and (line := progress(event)):
            # vLLM's name and DeepSeek's: clients read one of the two.
            yield from self._delta(dict.fromkeys(("reasoning", "reasoning_content"), line + "\n"))

    def final(self, outcome: Outcome, trace: Trace) -> Iterator[bytes]:
        """Yield the final chunks: the finish reason with the report, then the usage."""
        level = self._request.secondpass.trace
        yield self._chunk(
            [{"index": 0, "delta": {}, "finish_reason": outcome.finish_reason}],
            secondpass=report_document(self._spec, outcome, trace, level),
        )
        if self._request.stream_options.include_usage:
            yield self._chunk([], usage=usage(outcome, trace))
        yield DONE

    def _delta(self, delta: dict[str, str]) -> Iterator[bytes]:
        if not self._has_started:
            self._has_started = True
            yield self._choice({"role": "assistant", "content": ""})
        yield self._choice(delta)

    def _choice(self, delta: dict[str, str]) -> bytes:
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": None}])

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        usage = {"usage": None} if self._request.stream_options.include_usage else {}
        return b"data: %b\n\n" % dumps(self._envelope | {"choices": choices} | usage | more)


def usage(outcome: Outcome, trace: Trace) -> dict[str, Any]:
    """Build OpenAI's usage: the prompt once, the answer, and all other tokens as reasoning."""
    calls = [event for event in trace.events if isinstance(event, CallFinished)]
    answer = outcome.candidate.tokens or _estimated_tokens(outcome.candidate.text, calls)
    completion = sum(role_usage.completion for role_usage in outcome.usage.values())
    prompt = _prompt_usage(calls)
    return {
        "prompt_tokens": prompt.prompt,
        "completion_tokens": answer,
        "total_tokens": prompt.prompt + answer,
        "prompt_tokens_details": {"cached_tokens": min(prompt.cached, prompt.prompt)},
        "completion_tokens_details": {"reasoning_tokens": max(0, completion - answer)},
    }


def progress(event: Event) -> str | None:
    """Return a progress line for a person to read, or None for an event without one."""
    match event:
        case CandidateRecorded(candidate=candidate):
            parts = [
                " ".join((candidate.answer or candidate.text).split())[:_MAX_PROGRESS_CHARACTERS]
            ]
            if candidate.score is not None:
                parts.append(f"{candidate.score_kind} {candidate.score:.2f}")
            if candidate.why is not None:
                parts.append(candidate.why)
            return f"{'best' if event.is_best else 'candidate'}: {'; '.join(parts)}"
        case VerdictRecorded():
            return f"{event.role}, {event.purpose}: {_verdict(event)}"
        case NoteRecorded():
            return f"{event.about}: {event.what}"
        case CallFinished(end="failed"):
            return f"a call of the {event.role} failed"
    return None


def _verdict(event: VerdictRecorded) -> str:
    parts = [] if event.verdict is None else [event.verdict]
    if event.labels is not None:
        parts += [f"{label} {p:.2f}" for label, p in event.labels.probabilities.items()]
    if event.reward is not None:
        parts.append(f"reward {event.reward:.3g}")
    if event.error is not None:
        parts.append(event.error[:_MAX_PROGRESS_CHARACTERS])
    return ", ".join(parts)


def _prompt_usage(calls: list[CallFinished]) -> Usage:
    """Return the usage of the call with the shortest prompt, preferably one of the actor's drafts."""
    own = [c for c in calls if c.role == "actor" and c.purpose == SOLVE and c.usage.prompt]
    return min((c.usage for c in own or calls), key=lambda u: u.prompt, default=Usage())


def _estimated_tokens(text: str, calls: list[CallFinished]) -> int:
    """Estimate the tokens of `text` by its share of the characters of a call.

    Used where the engine reports only the tokens of whole calls.
    """
    for call in calls:
        if text in call.texts:
            return round(call.usage.completion * len(text) / max(1, sum(map(len, call.texts))))
    return 0
