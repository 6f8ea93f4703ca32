"""A chain of iterative deepening: a draft that continues after each inserted reflection prompt.

A segment of a chain is the text between two reflection prompts. The answer is read after each
segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from secondpass.strategies import prompts
from secondpass.strategies.api.errors import UnusableCompletion
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw
from secondpass.strategies.continuation.forced_answer import can_force, force_answer
from secondpass.strategies.continuation.reasoning import (
    ReasoningState,
    reasoning_state,
    reflection_point,
)
from secondpass.strategies.continuation.triggers import AnswerTrail, ChainAnswer, Schedule


@dataclass
class Chain:
    """Chain number `index` (from 0) of a run.

    It ends early when the last `agree` segments have the same answer. `logprobs` is as in `Draw`
    and applies to all calls except those that force an answer.
    """

    run: Run
    index: int
    schedule: Schedule
    agree: int
    temperature: float
    logprobs: int | None = None
    trail: AnswerTrail = field(default_factory=AnswerTrail)
    _prefix: Completion | None = None
    """The chain up to the point of the next reflection prompt; None before the first segment."""
    _written: int = 0
    """Completion tokens of all segments so far."""

    async def generate(self) -> AnswerTrail:
        """Generate all segments and return their answers.

        An error before the first answer is raised. A later one only ends the chain. Raises
        UnusableCompletion if the chain contains only reasoning.
        """
        for segment in range(self.schedule.max_triggers + 1):
            needed = int(self.trail.is_empty)
            [is_open] = await self.run.map(self._segment, [segment], min_results=needed)
            if is_open is None:
                self.run.note("not deepened", f"chain {self.index}: a continuation failed")
            if not is_open:
                break
        if self.trail.is_empty:
            raise UnusableCompletion(f"chain {self.index} contains only reasoning")
        return self.trail

    async def _segment(self, segment: int) -> bool:
        """Generate a segment and record its answer; returns whether another segment may change the answer."""
        cap = self.schedule.cap(segment, self._written)
        if self._prefix is None:
            after, draw = 0, self._draw(cap)
            draft = await self.run.ask(SOLVE, index=self.index, draw=draw, resumable=True)
        else:
            reflection = _reflection(is_reasoning=self._state(self._prefix) == "open")
            after = _length(self._prefix) + len(reflection)
            draft = await self._extend(self._prefix, reflection, cap)
        draft, prefix = await self._completed(
            draft, after, is_capped=_is_capped(draft, cap, self._written)
        )
        self._prefix, self._written = prefix, draft.usage.completion
        await self._record_answer(draft, prefix)
        if segment == self.schedule.max_triggers or self.trail.has_agreement(self.agree):
            return False
        if prefix is None:
            self.run.note("not deepened", _no_safe_point_reason(draft))
        return prefix is not None

    async def _completed(
        self, draft: Completion, after: int, *, is_capped: bool
    ) -> tuple[Completion, Completion | None]:
        """Return the chain with a completed segment, and its prefix up to the next reflection prompt.

        A segment truncated by its cap is continued to its own end if there is no safe point beyond
        `after` characters. So is a segment whose reasoning is closed, because its answer is partly
        written. The prefix is None without a safe point, or if a limit other than the cap ended the
        segment.
        """
        profile = self.run.model().profile
        prefix = reflection_point(draft, profile, after=after)
        if is_capped and (prefix is None or self._state(draft) == "closed"):
            draft, is_capped = await self._extend(draft, "", None), False
            prefix = reflection_point(draft, profile, after=after)
        is_complete = is_capped or draft.finish_reason == "stop"
        return draft, prefix if is_complete else None

    async def _extend(self, draft: Completion, text: str, cap: int | None) -> Completion:
        return await self.run.extend(draft, text=text, draw=self._draw(cap), resumable=True)

    def _draw(self, cap: int | None) -> Draw:
        return Draw(temperature=self.temperature, max_tokens=cap, logprobs=self.logprobs)

    async def _record_answer(self, draft: Completion, prefix: Completion | None) -> None:
        """Append the answer of a segment to the trail: its own, else one forced from a copy of it, else none."""
        is_reasoning = self._state(draft) == "open"
        has_conclusion = bool(draft.text.strip()) and not is_reasoning
        if has_conclusion and await self._add(self.run.candidate(draft), draft, is_forced=False):
            return
        if prefix is not None and self.schedule.max_triggers and can_force(self.run.task):
            reply = await force_answer(self.run, prefix)
            if reply and await self._add(self.run.candidate(reply), reply, is_forced=True):
                return
        if draft.text.strip():
            candidate = _without_answer(draft) if is_reasoning else self.run.candidate(draft)
            self.run.propose(candidate)
            self.trail.add(ChainAnswer(candidate, None, draft))

    async def _add(self, candidate: Candidate, draft: Completion, *, is_forced: bool) -> bool:
        """Append the candidate to the trail if it has an answer; returns whether it has one."""
        ballot = await self.run.class_of(candidate)
        if ballot is not None:
            self.run.propose(candidate)
            self.trail.add(ChainAnswer(candidate, ballot, draft, is_forced))
        return ballot is not None

    def _state(self, draft: Completion) -> ReasoningState:
        return reasoning_state(draft, self.run.model().profile)


def _is_capped(draft: Completion, cap: int | None, written: int) -> bool:
    """Return whether the segment's cap truncated it, rather than the client's limit or the context length."""
    tokens = draft.usage.completion - written
    return (
        draft.finish_reason == "length"
        and cap is not None
        and (tokens >= cap or not draft.usage.completion)
    )


def _reflection(*, is_reasoning: bool) -> str:
    return f"\n\n{prompts.fill('deepen_thoughts' if is_reasoning else 'deepen', {})}\n\n"


def _length(prefix: Completion) -> int:
    return len(prefix.reasoning or prefix.text)


def _without_answer(draft: Completion) -> Candidate:
    """Return the candidate of a draft that consists of reasoning, from which no answer is extracted."""
    return Candidate(
        text=draft.text,
        index=draft.index,
        finish_reason=draft.finish_reason,
        tokens=draft.usage.completion,
    )


def _no_safe_point_reason(draft: Completion) -> str:
    if draft.finish_reason != "stop":
        return f"a draft ended by {draft.finish_reason}"
    return (
        "a draft ended inside a formula, a code block or a tool call, or its token ids are unknown"
    )
