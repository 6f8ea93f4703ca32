"""Trying again what was rejected: the retry sees the answers tried and what is wrong, never the wrong attempt itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from secondpass.strategies.api.errors import EngineError, UnusableCompletion
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Completion
from secondpass.strategies.refining.critics import tested
from secondpass.strategies.refining.versions import Attempt, loses_numbers, scheduled, summary

REDRAWS = 3
"""How often a retry that repeats an answer which the tests rejected is drawn again."""


@dataclass
class Retries:
    """How rejected attempts are tried again, and how many retries were drawn, were dropped, or repeated an answer.

    `chains` and `rounds` are how many there are at most, `width` of them at once. `weighs_repeats`: a repeated answer weighs less;
    `drops_repeats`: where tests rejected it, it is drawn again.
    """

    chains: int
    rounds: int
    width: int
    temperature: float
    is_scheduled: bool
    weighs_repeats: bool
    drops_repeats: bool
    drawn: int = 0
    lost_numbers: int = 0
    repeated: int = 0

    async def of(self, run: Run, attempts: Sequence[Attempt], number: int) -> list[Attempt]:
        """One retry (round `number`, from 1) of each chain whose latest attempt was rejected with a reason."""

        async def retry(tried: list[Attempt]) -> Attempt | None:
            for redraw in range(REDRAWS + 1):
                attempt = await self._draw(run, tried, number, redraw)
                if attempt is None or not self._is_dropped(attempt, tried):
                    return attempt
            return None

        chains = [
            [each for each in attempts if each.chain == chain] for chain in range(self.chains)
        ]
        rejected = [tried for tried in chains if tried and is_to_be_retried(tried[-1])]
        return [
            each for each in await run.map(retry, rejected, width=self.width) if each is not None
        ]

    async def _draw(
        self, run: Run, tried: list[Attempt], number: int, redraw: int
    ) -> Attempt | None:
        """A retry of a chain; None where the call failed, or where it lost what the attempts were about."""
        try:
            completion = await self._write(run, tried, number, redraw)
        except (EngineError, UnusableCompletion):
            return None
        self.drawn += 1
        candidate = run.candidate(completion)
        conclude = run.profile("actor").conclusion
        before = (conclude(each.completion.text) for each in (tried[0], tried[-1]))
        if run.task.kind == "math" and loses_numbers(conclude(completion.text), *before):
            self.lost_numbers += 1
            return None
        ballot = await run.class_of(candidate)
        is_repeat = ballot is not None and any(each.ballot == ballot for each in tried)
        self.repeated += is_repeat
        attempt = Attempt(
            chain=tried[0].chain,
            round=number,
            completion=completion,
            candidate=candidate,
            ballot=ballot,
            is_repeat=is_repeat and self.weighs_repeats,
        )
        return await tested(run, attempt)

    async def _write(self, run: Run, tried: list[Attempt], number: int, redraw: int) -> Completion:
        rises = self.is_scheduled
        ask = partial(
            run.ask,
            after="question",
            index=tried[0].chain + self.chains * (number + redraw * (self.rounds + 1)),
            temperature=scheduled(self.temperature, number) if rises else self.temperature,
        )
        critique = _critique(run, tried[-1])
        if answers := _answers(run, tried):
            return await ask("retry", tried=answers, critique=critique)
        return await ask("retry_unseen", critique=critique)

    def _is_dropped(self, attempt: Attempt, tried: Sequence[Attempt]) -> bool:
        """Does it repeat what tests, and not only a critic, rejected?"""
        return self.drops_repeats and any(
            each.ballot == attempt.ballot is not None and each.is_rejected and _is_external(each)
            for each in tried
        )


def is_to_be_retried(attempt: Attempt) -> bool:
    """Was it called wrong, with anything said that a retry can be told?"""
    ruling = attempt.ruling
    return ruling is not None and ruling.is_wrong and ruling.issues is not None


def _is_external(attempt: Attempt) -> bool:
    return attempt.ruling is not None and attempt.ruling.is_external


def _critique(run: Run, attempt: Attempt) -> str:
    issues = attempt.ruling.issues if attempt.ruling is not None else None
    return summary(issues or (), run.profile("actor").conclusion(attempt.completion.text))


def _answers(run: Run, tried: Sequence[Attempt]) -> list[str]:
    """The final answers tried, each once, in order; none where an answer is the whole attempt, as in code."""
    if run.task.kind in ("open", "code"):
        return []
    answers: dict[int, str] = {}
    for each in tried:
        if each.ballot is not None and each.candidate.answer is not None:
            answers.setdefault(each.ballot, each.candidate.answer)
    return list(answers.values())
