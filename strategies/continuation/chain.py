"""One chain of iterative deepening: it writes, is read, is made to doubt, and goes on, segment by segment."""

from __future__ import annotations

from dataclasses import dataclass, field

from secondpass.strategies import prompts
from secondpass.strategies.api.errors import BudgetExhausted, EngineError, UnusableCompletion
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate, Completion
from secondpass.strategies.continuation.forced_answer import can_force, forced
from secondpass.strategies.continuation.reasoning import doubted, mind
from secondpass.strategies.continuation.triggers import Reading, Readings, Schedule


@dataclass
class Chain:
    """The chain `index` of a run. It ends early when `agree` segments in a row have one answer.

    `logprobs` as in `Run.begin`, for every part that is not forced. `spent` is what of the budget was missing to go on.
    """

    run: Run
    index: int
    schedule: Schedule
    agree: int
    temperature: float
    logprobs: int | None = None
    readings: Readings = field(default_factory=Readings)
    spent: BudgetExhausted | None = None

    async def write(self) -> Readings:
        """Write the chain to its end. Raises what the first draft raises; what fails later only ends the chain."""
        draft = await self.run.begin(
            index=self.index,
            temperature=self.temperature,
            max_tokens=self.schedule.cap(0, 0),
            logprobs=self.logprobs,
        )
        try:
            await self._deepen(draft)
        except (BudgetExhausted, EngineError, UnusableCompletion) as error:
            if self.readings.is_empty:
                raise
            self.run.note("not deepened", f"chain {self.index}: {error}")
            self.spent = error if isinstance(error, BudgetExhausted) else None
        if self.readings.is_empty:
            raise UnusableCompletion(f"chain {self.index} wrote nothing but thoughts")
        return self.readings

    async def _deepen(self, draft: Completion) -> None:
        """Read the draft, put a doubt after it, and go on, for as long as that may change the answer."""
        cap, written, after = self.schedule.cap(0, 0), 0, 0
        for segment in range(self.schedule.max_triggers + 1):
            is_capped = _is_capped(draft, cap, written)
            draft, place = await self._settled(draft, after, is_capped=is_capped)
            await self._read(draft, place)
            if segment == self.schedule.max_triggers or self.readings.agree(self.agree):
                return
            if place is None:
                self.run.note("not deepened", _why_not(draft))
                return
            doubt = _doubt(place, is_thought=self._mind(place) == "open")
            written = draft.usage.completion
            cap, after = self.schedule.cap(segment + 1, written), _length(place) + len(doubt)
            draft = await self._go_on(place, doubt, cap)

    async def _settled(
        self, draft: Completion, after: int, *, is_capped: bool
    ) -> tuple[Completion, Completion | None]:
        """The segment, and the chain up to where a doubt may follow, if it may.

        A segment that its budget ended goes on to its own end where there is no such place beyond `after` characters,
        and where it is writing its answer already.
        """
        profile = self.run.profile("actor")
        place = doubted(draft, profile, after=after)
        if is_capped and (place is None or self._mind(draft) == "closed"):
            draft, is_capped = await self._go_on(draft, "", None), False
            place = doubted(draft, profile, after=after)
        is_over = is_capped or draft.finish_reason == "stop"
        return draft, place if is_over else None

    async def _go_on(self, draft: Completion, text: str, cap: int | None) -> Completion:
        return await self.run.extend(
            draft,
            text=text,
            temperature=self.temperature,
            max_tokens=cap,
            logprobs=self.logprobs,
            resumable=True,
        )

    async def _read(self, draft: Completion, place: Completion | None) -> None:
        """Take the answer of a segment: its own, else one that is forced out of a copy of it, else none."""
        is_thought = self._mind(draft) == "open"
        if draft.text.strip() and not is_thought:
            candidate = self.run.candidate(draft)
            if await self._take(candidate, draft, is_forced=False):
                return
        if place is not None and self.schedule.max_triggers and can_force(self.run.task):
            reply = await forced(self.run, place)
            if reply and await self._take(self.run.candidate(reply), reply, is_forced=True):
                return
        if draft.text.strip():
            candidate = _unanswered(draft) if is_thought else self.run.candidate(draft)
            self.run.propose(candidate)
            self.readings.add(Reading(candidate, None, draft))

    async def _take(self, candidate: Candidate, draft: Completion, *, is_forced: bool) -> bool:
        """Note the candidate if it has an answer."""
        ballot = await self.run.class_of(candidate)
        if ballot is not None:
            self.run.propose(candidate)
            self.readings.add(Reading(candidate, ballot, draft, is_forced))
        return ballot is not None

    def _mind(self, draft: Completion) -> str:
        return mind(draft, self.run.profile("actor"))


def _is_capped(draft: Completion, cap: int | None, written: int) -> bool:
    """Was it the chain's own budget that ended the segment, and not the client's cap or the model's context?"""
    taken = draft.usage.completion - written
    return draft.is_truncated and cap is not None and (taken >= cap or not draft.usage.completion)


def _doubt(place: Completion, *, is_thought: bool) -> str:
    return f"\n\n{prompts.fill('deepen_thoughts' if is_thought else 'deepen', {})}\n\n"


def _length(place: Completion) -> int:
    return len(place.reasoning or place.text)


def _unanswered(draft: Completion) -> Candidate:
    """What is all thoughts has no answer, whatever they say."""
    return Candidate(
        text=draft.text,
        index=draft.index,
        finish_reason=draft.finish_reason,
        tokens=draft.usage.completion,
    )


def _why_not(draft: Completion) -> str:
    if draft.finish_reason != "stop":
        return f"a draft ended by {draft.finish_reason}"
    return "a draft ended inside a formula, a code block or a tool call, or where its tokens are not known"
