"""A completion while its deltas come in."""

from __future__ import annotations

from dataclasses import dataclass, field

from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.values import Completion, End, FinishReason, Usage


@dataclass
class PartialCompletion:
    """A completion while its deltas come in."""

    call: Call
    index: int
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tokens: int = 0
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    def add(self, delta: Delta) -> None:
        """Append what the delta brings."""
        self.text.append(delta.text)
        self.reasoning.append(delta.reasoning)
        self.tokens += delta.tokens
        self.token_ids.extend(delta.token_ids)
        self.logprobs.extend(delta.logprobs)
        self.confidences.extend(delta.confidences)
        self.finish_reason = delta.finish_reason or self.finish_reason
        if self.call.resumable:
            self._note_end(delta)

    def _note_end(self, delta: Delta) -> None:
        """Note where the delta ended, unless its tokens may hold more than its text.

        That is so of the last one, which may hold an end token, and of all where text is held back to look for stops.
        """
        last = self.ends[-1] if self.ends else End(0, 0, 0)
        end = End(
            len(self.token_ids), last.reasoning + len(delta.reasoning), last.text + len(delta.text)
        )
        if delta.token_ids and delta.finish_reason != "stop" and not self.call.sampling.stop:
            self.ends.append(end)

    @property
    def completion(self) -> Completion:
        """As far as it is written; its finish reason is "length" unless the model came to an end."""
        return Completion(
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            messages=self.call.messages,
            role=self.call.role,
            purpose=self.call.purpose,
            index=self.index,
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs),
            confidences=tuple(self.confidences),
            ends=tuple(self.ends),
            finish_reason=self.finish_reason or "length",
            usage=Usage(completion=self.tokens),
        )
