"""One chain of iterative deepening: write a segment, read its answer, insert a reflection prompt, continue."""

from __future__ import annotations

from dataclasses import dataclass, field

from secondpass.strategies import prompts
from secondpass.strategies.api.errors import UnusableCompletion
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw
from secondpass.strategies.continuation.forced_answer import can_force, forced
from secondpass.strategies.continuation.reasoning import (
    ReasoningState,
    reasoning_state,
    reflection_point,
)
from secondpass.strategies.continuation.triggers import AnswerTrail, ChainAnswer, Schedule


@dataclass
class Chain:
    """The chain `index` of a run. It ends early when `agree` segments in a row have one answer.

    `logprobs` as in `Draw`, for every call but those that force an answer.
    """

    run: Run
    index: int
    schedule: Schedule
    agree: int
    temperature: float
    logprobs: int | None = None
    trail: AnswerTrail = field(default_factory=AnswerTrail)
    _point: Completion | None = None
    """The chain up to the point where the next reflection prompt follows; None before the first segment."""
    _written: int = 0
    """Completion tokens of the segments so far."""

    async def write(self) -> AnswerTrail:
        """Write the chain to its end. Raises what fails before its first answer; what fails later only ends the chain."""
        for segment in range(self.schedule.max_triggers + 1):
            needed = int(self.trail.is_empty)
            [continues] = await self.run.map(self._segment, [segment], min_results=needed)
            if continues is None:
                self.run.note("not deepened", f"chain {self.index}: a continuation failed")
            if not continues:
                break
        if self.trail.is_empty:
            raise UnusableCompletion(f"chain {self.index} has nothing but reasoning")
        return self.trail

    async def _segment(self, segment: int) -> bool:
        """Write one segment and read its answer; True where another one may change the chain's answer."""
        cap = self.schedule.cap(segment, self._written)
        if self._point is None:
            after, draw = 0, self._draw(cap)
            draft = await self.run.ask(SOLVE, index=self.index, draw=draw, resumable=True)
        else:
            reflection = _reflection(is_reasoning=self._state(self._point) == "open")
            after = _length(self._point) + len(reflection)
            draft = await self._extend(self._point, reflection, cap)
        draft, point = await self._settled(
            draft, after, is_capped=_is_capped(draft, cap, self._written)
        )
        self._point, self._written = point, draft.usage.completion
        await self._read(draft, point)
        if segment == self.schedule.max_triggers or self.trail.agree(self.agree):
            return False
        if point is None:
            self.run.note("not deepened", _why_not(draft))
        return point is not None

    async def _settled(
        self, draft: Completion, after: int, *, is_capped: bool
    ) -> tuple[Completion, Completion | None]:
        """The segment, and the chain up to the point where a reflection prompt may follow, if there is one.

        A segment that its cap truncated is continued to its own end where no such point lies beyond `after` characters,
        and where its reasoning is closed, so that it is writing its answer already.
        """
        profile = self.run.model().profile
        point = reflection_point(draft, profile, after=after)
        if is_capped and (point is None or self._state(draft) == "closed"):
            draft, is_capped = await self._extend(draft, "", None), False
            point = reflection_point(draft, profile, after=after)
        is_complete = is_capped or draft.finish_reason == "stop"
        return draft, point if is_complete else None

    async def _extend(self, draft: Completion, text: str, cap: int | None) -> Completion:
        return await self.run.extend(draft, text=text, draw=self._draw(cap), resumable=True)

    def _draw(self, cap: int | None) -> Draw:
        return Draw(temperature=self.temperature, max_tokens=cap, logprobs=self.logprobs)

    async def _read(self, draft: Completion, point: Completion | None) -> None:
        """Add the answer of a segment to the trail: its own, else one forced out of a copy of it, else none."""
        is_reasoning = self._state(draft) == "open"
        is_own = bool(draft.text.strip()) and not is_reasoning
        if is_own and await self._add(self.run.candidate(draft), draft, is_forced=False):
            return
        if point is not None and self.schedule.max_triggers and can_force(self.run.task):
            reply = await forced(self.run, point)
            if reply and await self._add(self.run.candidate(reply), reply, is_forced=True):
                return
        if draft.text.strip():
            candidate = _unanswered(draft) if is_reasoning else self.run.candidate(draft)
            self.run.propose(candidate)
            self.trail.add(ChainAnswer(candidate, None, draft))

    async def _add(self, candidate: Candidate, draft: Completion, *, is_forced: bool) -> bool:
        """Add the candidate to the trail if it has an answer; True if it has."""
        ballot = await self.run.class_of(candidate)
        if ballot is not None:
            self.run.propose(candidate)
            self.trail.add(ChainAnswer(candidate, ballot, draft, is_forced))
        return ballot is not None

    def _state(self, draft: Completion) -> ReasoningState:
        return reasoning_state(draft, self.run.model().profile)


def _is_capped(draft: Completion, cap: int | None, written: int) -> bool:
    """Whether the chain's own cap ended the segment, and not the client's limit or the model's context."""
    own = draft.usage.completion - written
    return draft.is_truncated and cap is not None and (own >= cap or not draft.usage.completion)


def _reflection(*, is_reasoning: bool) -> str:
    return f"\n\n{prompts.fill('deepen_thoughts' if is_reasoning else 'deepen', {})}\n\n"


def _length(point: Completion) -> int:
    return len(point.reasoning or point.text)


def _unanswered(draft: Completion) -> Candidate:
    """The candidate of a draft that is all reasoning: it has no answer, whatever it contains."""
    return Candidate(
        text=draft.text,
        index=draft.index,
        finish_reason=draft.finish_reason,
        tokens=draft.usage.completion,
    )


def _why_not(draft: Completion) -> str:
    if draft.finish_reason != "stop":
        return f"a draft ended by {draft.finish_reason}"
    return (
        "a draft ended inside a formula, a code block or a tool call, or its tokens are not known"
    )
