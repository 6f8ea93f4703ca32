"""A run in OpenAI's words: one completion, or its chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from secondpass.service.common.events import (
    AnswerDelta,
    CallFinished,
    CandidateSeen,
    Event,
    NoteMade,
    Trace,
    VerdictSeen,
)
from secondpass.service.http.chat_schema import ChatRequest
from secondpass.service.http.encoding import dumps
from secondpass.service.http.render import report
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies.api.values import SOLVE, Usage

DONE = b"data: [DONE]\n\n"
_SHOWN = 80


def completion(
    spec: RunSpec, outcome: Outcome, trace: Trace, wanted: ChatRequest, created: int
) -> dict[str, Any]:
    """The answer as a chat completion."""
    candidate = outcome.candidate
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": candidate.text},
        "logprobs": None,
        "finish_reason": candidate.finish_reason,
    }
    return {
        "id": spec.id,
        "object": "chat.completion",
        "created": created,
        "model": wanted.model,
        "choices": [choice],
        "usage": usage(outcome, trace),
        "secondpass": report(spec, outcome, trace, wanted.secondpass.trace),
    }


class Chunks:
    """The chunks of one stream: the role first, then text as it comes, then how it ended."""

    def __init__(self, spec: RunSpec, wanted: ChatRequest, created: int) -> None:
        self._spec, self._wanted = spec, wanted
        self._envelope = {
            "id": spec.id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": wanted.model,
        }
        self._has_begun = False

    def of(self, event: Event) -> Iterator[bytes]:
        """What the client sees of an event: the answer's text, and progress if it asked for that."""
        if isinstance(event, AnswerDelta):
            yield from self._delta({"content": event.text})
        elif self._wanted.secondpass.progress and (line := progress(event)):
            yield from self._delta({"reasoning_content": line + "\n"})

    def last(self, outcome: Outcome, trace: Trace) -> Iterator[bytes]:
        """How it ended, with the full bill."""
        level = self._wanted.secondpass.trace
        yield self._chunk(
            [{"index": 0, "delta": {}, "finish_reason": outcome.candidate.finish_reason}],
            secondpass=report(self._spec, outcome, trace, level),
        )
        if self._wanted.stream_options.include_usage:
            yield self._chunk([], usage=usage(outcome, trace))
        yield DONE

    def _delta(self, delta: dict[str, str]) -> Iterator[bytes]:
        if not self._has_begun:
            self._has_begun = True
            yield self._choice({"role": "assistant", "content": ""})
        yield self._choice(delta)

    def _choice(self, delta: dict[str, str]) -> bytes:
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": None}])

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        usage = {"usage": None} if self._wanted.stream_options.include_usage else {}
        return b"data: %b\n\n" % dumps(self._envelope | {"choices": choices} | usage | more)


def usage(outcome: Outcome, trace: Trace) -> dict[str, Any]:
    """The prompt once, the answer as completion, and all that was written besides as reasoning."""
    calls = [event for event in trace.events if isinstance(event, CallFinished)]
    answer = outcome.candidate.tokens or _share(outcome.candidate.text, calls)
    written = sum(bill.completion for bill in outcome.usage.values())
    prompt = _prompt(calls)
    return {
        "prompt_tokens": prompt.prompt,
        "completion_tokens": answer,
        "total_tokens": prompt.prompt + answer,
        "prompt_tokens_details": {"cached_tokens": min(prompt.cached, prompt.prompt)},
        "completion_tokens_details": {"reasoning_tokens": max(0, written - answer)},
    }


def progress(event: Event) -> str | None:
    """A line for a person who waits."""
    match event:
        case CandidateSeen(candidate=candidate):
            said = [" ".join((candidate.answer or candidate.text).split())[:_SHOWN]]
            if candidate.score is not None:
                said.append(f"{candidate.score_kind} {candidate.score:.2f}")
            if candidate.why is not None:
                said.append(candidate.why)
            return f"{'best' if event.is_best else 'candidate'}: {'; '.join(said)}"
        case VerdictSeen():
            return f"{event.role}, {event.purpose}: {_verdict(event)}"
        case NoteMade():
            return f"{event.about}: {event.what}"
        case CallFinished(end="failed"):
            return f"a call of the {event.role} failed"
    return None


def _verdict(event: VerdictSeen) -> str:
    said = [] if event.verdict is None else [event.verdict]
    if event.labels is not None:
        said += [f"{label} {p:.2f}" for label, p in event.labels.probabilities.items()]
    if event.reward is not None:
        said.append(f"reward {event.reward:.3g}")
    if event.error is not None:
        said.append(event.error[:_SHOWN])
    return ", ".join(said)


def _prompt(calls: list[CallFinished]) -> Usage:
    """The usage of a call whose prompt was the client's own."""
    own = [c for c in calls if c.role == "actor" and c.purpose == SOLVE and c.usage.prompt]
    return min((c.usage for c in own or calls), key=lambda u: u.prompt, default=Usage())


def _share(text: str, calls: list[CallFinished]) -> int:
    """The tokens of `text` where the engine counts only whole calls: by its share of the call's characters."""
    for call in calls:
        if text in call.texts:
            return round(call.usage.completion * len(text) / max(1, sum(map(len, call.texts))))
    return 0
