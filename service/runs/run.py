"""Implementation of `strategies.api.run.Run`, the interface that strategies are written against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import anyio

from secondpass.service.calls.budget import BudgetReserve
from secondpass.service.common.concurrency import delay_next_lane
from secondpass.service.common.events import Trace
from secondpass.service.runs.answer_classes import AnswerClasses
from secondpass.service.runs.candidates import Candidates
from secondpass.service.runs.generation import EXTEND, GeneratingVerbs
from secondpass.service.runs.judging import JudgingVerbs
from secondpass.service.runs.partial_drafts import PartialDrafts
from secondpass.service.runs.run_spec import RunSpec, SharedResources
from secondpass.service.runs.verifiers import UNRUNNABLE, Verifier
from secondpass.strategies.answers.task import Task, extract
from secondpass.strategies.api.conversations import question_of
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import UnusableCompletion
from secondpass.strategies.api.handles import StepStream
from secondpass.strategies.api.values import (
    SOLVE,
    Candidate,
    Completion,
    Message,
    Role,
    StopReason,
    Verdict,
)

OWN_REASONS: tuple[StopReason, ...] = ("finished", "accepted", "consensus")
"""Stop reasons that a strategy may set. The run sets all others."""


class LiveRun(GeneratingVerbs, JudgingVerbs):
    """A run in progress. `strategies.api.run.Run` documents the verbs."""

    def __init__(self, spec: RunSpec, shared: SharedResources, trace: Trace) -> None:
        super().__init__(spec, shared, trace)
        self._stop_reason: StopReason = "finished"
        self.is_interrupted = False
        self.scope = anyio.CancelScope()
        self._best: Candidate | None = None
        self._reported = Candidates(trace)
        self._classes = AnswerClasses(spec.task, shared.equivalence, self.question)
        self._verifier = Verifier(spec.task, shared.sandboxes, trace)
        self._drafts = PartialDrafts()

    # -- state --------------------------------------------------------------------------------------

    @property
    def stop_reason(self) -> StopReason:
        return self._stop_reason

    @stop_reason.setter
    def stop_reason(self, reason: StopReason) -> None:
        if reason not in OWN_REASONS:
            raise ValueError(
                f"stop_reason: must be one of {', '.join(OWN_REASONS)}, not {reason!r}"
            )
        self._stop_reason = reason

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.spec.messages

    @property
    def question(self) -> str:
        return question_of(self.messages)

    @property
    def task(self) -> Task:
        return self.spec.task

    @property
    def best(self) -> Candidate:
        if self._best is None:
            raise UnusableCompletion("no candidate was proposed yet")
        return self._best

    @property
    def has_answer(self) -> bool:
        """True once a candidate was proposed or elected."""
        return self._best is not None

    # -- comparing ----------------------------------------------------------------------------------

    async def class_of(self, candidate: Candidate) -> int | None:
        if candidate.answer is None or self.task.kind == "open":
            return None
        with delay_next_lane():  # answers of one run are compared one at a time in any case
            return await self._classes.of(candidate.answer)

    async def verify(self, candidate: Candidate) -> Verdict | None:
        return await self._verifier.verify(candidate)

    @contextmanager
    def reserve(
        self, *, tokens: int, prompt_tokens: int = 0, role: Role = "actor"
    ) -> Iterator[BudgetReserve]:
        reserved = self.budget.reserve(tokens, prompt_tokens, self._calls.price(role))
        try:
            yield reserved
        finally:
            reserved.release()

    # -- candidates ---------------------------------------------------------------------------------

    def candidate(
        self,
        completion: Completion | StepStream,
        *,
        score: float | None = None,
        score_kind: str | None = None,
        why: str | None = None,
    ) -> Candidate:
        draft = completion if isinstance(completion, Completion) else completion.completion
        self._calls.waste.keep(draft)
        candidate = self._candidate_of(draft, score=score, score_kind=score_kind, why=why)
        self._reported.report(candidate)
        return candidate

    def propose(self, candidate: Candidate) -> None:
        if self._best is None or _rank(candidate) > _rank(self._best):
            self.elect(candidate)
        else:
            self._reported.report(candidate)

    def elect(self, candidate: Candidate) -> None:
        self._best = candidate
        self._reported.report_leader(candidate)

    def elect_partial(self, *, is_truncation_allowed: bool, is_deadline: bool) -> None:
        """Elect the best draft if the run has no answer and the request accepts a truncated one.

        At the deadline a finished answer is elected in any case: its call may wait for nothing but the usage.
        """
        if not (self.spec.returns_partial or is_deadline):
            return
        draft = self._drafts.best(self.model().profile, is_visible=self.has_streamed)
        if draft is None or (draft.is_truncated and not is_truncation_allowed):
            return
        if self._elect_fallback(draft) and draft.is_truncated:
            self.note("partial", "the text is a draft that a limit ended; nothing better exists")

    async def decide_by_tests(self) -> None:
        """Test the best candidate, then the others until one passes, and elect the first that passed.

        An answer that was streamed is tested, but not replaced.
        """
        if not self._verifier.has_tests:
            return
        verdict = await self.verify(self.best)
        self.elect_tested()
        if (verdict is not None and verdict.accepted) or self.has_streamed:
            return
        others = [each for each in self._listed() if each.answer not in (None, self.best.answer)]
        async with self.as_completed(self.verify, others) as verdicts:
            async for verdict in verdicts:
                if verdict is not None and verdict.accepted:
                    break
        self.elect_tested()

    def elect_tested(self) -> None:
        """Elect the first candidate known to pass the tests; without one, score the best by its verdict."""
        if not self._verifier.has_tests:
            return
        listed = [self.best] if self.has_streamed else self._listed()
        passed = [e for e in listed if (v := self._verifier.known(e)) is not None and v.accepted]
        chosen = passed[0] if passed else self.best
        verdict = self._verifier.known(chosen)
        if verdict is not None:
            why = f"its tests {'accept' if verdict.accepted else 'reject'} it"
            self.elect(replace(chosen, score=verdict.score, score_kind="tests", why=why))
        elif self._verifier.problem is not None:
            self.note("tests", f"{UNRUNNABLE}{self._verifier.problem}")

    def _listed(self) -> list[Candidate]:
        """Return the best candidate, then all others in order of first appearance."""
        first = (self.best.index, self.best.text)
        listed = self._reported.listed
        return [self.best, *(each for each in listed if (each.index, each.text) != first)]

    def interrupt(self) -> None:
        """End the run because the service is draining; the best candidate so far is its answer."""
        self.is_interrupted = True
        self.scope.cancel()

    # -- internals ----------------------------------------------------------------------------------

    def _candidate_of(self, completion: Completion, **scoring: Any) -> Candidate:
        return Candidate(
            text=completion.text,
            answer=extract(
                self.task,
                completion.text,
                finished=not completion.is_truncated,
                delimiters=self.model(completion.role).profile.thinking,
            ),
            index=completion.index,
            finish_reason=completion.finish_reason,
            tokens=completion.usage.completion,
            tool_calls=completion.tool_calls,
            **scoring,
        )

    def _is_usable(self, call: Call, completion: Completion) -> bool:
        """Return whether a truncated completion is usable: it was streamed, or it contains a finished answer."""
        if self.has_streamed and call.visible:
            return bool(completion.text.strip())
        return call.purpose in (SOLVE, EXTEND) and self._is_answer(completion)

    def _is_answer(self, completion: Completion) -> bool:
        return completion.role == "actor" and self._candidate_of(completion).answer is not None

    def _keep_draft(self, call: Call, completion: Completion) -> None:
        if self.has_answer:
            return
        if self.spec.returns_partial or self._is_finished_answer(completion):
            self._drafts.add(call, completion)

    def _is_finished_answer(self, completion: Completion) -> bool:
        """Return whether the engine finished the completion, although its call may still wait for the usage."""
        is_open = self.task.kind == "open"
        return not completion.is_truncated and (is_open or self._is_answer(completion))

    def _elect_fallback(self, completion: Completion) -> bool:
        """Elect the completion if the run has no answer yet; return whether it was elected."""
        if self._best is not None:
            return False
        candidate = self.candidate(completion)
        if not completion.is_truncated:
            why = "finished, but not yet compared with other candidates"
        elif candidate.answer:
            why = "truncated after its answer"
        else:
            why = "truncated after it was streamed" if self.has_streamed else "truncated"
        self.elect(replace(candidate, why=why))
        return True


def _rank(candidate: Candidate) -> tuple[float, int]:
    """Sort key of proposals: the score, ties to the lower index."""
    score = float("-inf") if candidate.score is None else candidate.score
    return score, -candidate.index
