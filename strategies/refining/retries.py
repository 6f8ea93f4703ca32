"""Retries of rejected versions: a retry sees the answers tried and what is wrong, never the wrong version itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Completion, Draw
from secondpass.strategies.refining.critics import shown_issues, tested
from secondpass.strategies.refining.versions import Version

REDRAWS = 3
"""How often a retry that repeats an answer which the tests rejected is redrawn."""

STEP, MAX_TEMPERATURE = 0.15, 1.2
"""What each retry adds to the temperature under the schedule of arXiv 2506.11930, and where that ends."""

LOSS = 2
"""By how many numbers fewer than the earlier versions a retry may contain (arXiv 2411.16579)."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass
class Retries:
    """How rejected versions are retried, and the counts of retries drawn, dropped, and with a repeated answer.

    There are at most `chains` drafts and `rounds` retries of each, `width` of them at once. `weighs_repeats`: a repeated
    answer weighs less; `drops_repeats`: where tests rejected it, it is redrawn.
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

    async def of(self, run: Run, versions: Sequence[Version], number: int) -> list[Version]:
        """One retry (round `number`, from 1) of each chain whose latest version was rejected with issues."""
        chains = [[v for v in versions if v.chain == chain] for chain in range(self.chains)]
        rejected = [tried for tried in chains if tried and is_to_be_retried(tried[-1])]
        retry = partial(self._retry, run, number)
        drawn = await run.map(retry, rejected, width=self.width, min_results=0)
        return [each for each in drawn if each is not None]

    async def _retry(self, run: Run, number: int, tried: Sequence[Version]) -> Version | None:
        """A retry of a chain; None where every draw of it was dropped."""
        for redraw in range(REDRAWS + 1):
            version = await self._draw(run, tried, number, redraw)
            if version is None or not self._is_dropped(version, tried):
                return version
        return None

    async def _draw(
        self, run: Run, tried: Sequence[Version], number: int, redraw: int
    ) -> Version | None:
        """A retry of a chain; None where it lost the numbers of the versions before it."""
        completion = await self._write(run, tried, number, redraw)
        self.drawn += 1
        candidate = run.candidate(completion)
        conclude = run.model().profile.conclusion
        before = (conclude(each.completion.text) for each in (tried[0], tried[-1]))
        if run.task.kind == "math" and loses_numbers(conclude(completion.text), *before):
            self.lost_numbers += 1
            return None
        ballot = await run.class_of(candidate)
        is_repeat = ballot is not None and any(each.ballot == ballot for each in tried)
        self.repeated += is_repeat
        version = Version(
            chain=tried[0].chain,
            round=number,
            completion=completion,
            candidate=candidate,
            ballot=ballot,
            is_repeat=is_repeat and self.weighs_repeats,
        )
        return await tested(run, version)

    async def _write(
        self, run: Run, tried: Sequence[Version], number: int, redraw: int
    ) -> Completion:
        heat = scheduled(self.temperature, number) if self.is_scheduled else self.temperature
        ask = partial(
            run.ask,
            after="question",
            index=tried[0].chain + self.chains * (number + redraw * (self.rounds + 1)),
            draw=Draw(temperature=heat),
        )
        critique = _critique(run, tried[-1])
        if answers := _answers(run, tried):
            return await ask("retry", tried=answers, critique=critique)
        return await ask("retry_unseen", critique=critique)

    def _is_dropped(self, version: Version, tried: Sequence[Version]) -> bool:
        """True where it repeats an answer that tests, and not only a critic, rejected."""
        return self.drops_repeats and any(
            each.ballot == version.ballot is not None and each.is_rejected and _is_external(each)
            for each in tried
        )


def is_to_be_retried(version: Version) -> bool:
    """True where the version was rejected with issues that a retry can be shown."""
    verdict = version.verdict
    return verdict is not None and verdict.is_wrong and verdict.issues is not None


def scheduled(temperature: float, number: int) -> float:
    """The temperature of retry `number` (from 1): it rises from that of the drafts to 1.2."""
    return min(temperature + STEP * number, MAX_TEMPERATURE)


def loses_numbers(text: str, *others: str) -> bool:
    """True where a solution contains far fewer numbers than each of the versions before it."""
    return _numbers(text) < min(map(_numbers, others)) - LOSS


def _numbers(text: str) -> int:
    return len(_NUMBER.findall(text))


def _is_external(version: Version) -> bool:
    return version.verdict is not None and version.verdict.is_external


def _critique(run: Run, version: Version) -> str:
    issues = version.verdict.issues if version.verdict is not None else None
    return shown_issues(issues or (), run.model().profile.conclusion(version.completion.text))


def _answers(run: Run, tried: Sequence[Version]) -> list[str]:
    """The final answers tried, each once, in order; none where an answer is the whole version, as in code."""
    if run.task.kind in ("open", "code"):
        return []
    answers: dict[int, str] = {}
    for each in tried:
        if each.ballot is not None and each.candidate.answer is not None:
            answers.setdefault(each.ballot, each.candidate.answer)
    return list(answers.values())
