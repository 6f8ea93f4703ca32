"""Retries of rejected versions.

A retry prompt contains the answers tried and the issues found, never the text of a rejected
version.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Completion, Draw
from secondpass.strategies.refining.critics import shown_issues, with_test_verdict
from secondpass.strategies.refining.versions import Version

MAX_REDRAWS = 3
"""Maximum number of redraws of a retry that repeats an answer rejected by tests."""

TEMPERATURE_STEP, MAX_TEMPERATURE = 0.15, 1.2
"""Temperature added per retry, and its upper limit (Feedback Friction, arXiv 2506.11930)."""

MAX_LOST_NUMBERS = 2
"""Numbers that a retry may lose compared with the earlier versions (arXiv 2411.16579)."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass
class Retries:
    """Settings of retries, and their counts: drawn, dropped for lost numbers, with a repeated answer.

    There are `chains` drafts with at most `rounds` retries each, and at most `width` concurrent
    retries. With `is_scheduled` the temperature rises per round. With `downweights_repeats` a
    repeated answer has less weight in the vote. With `redraws_repeats` one that tests rejected is
    redrawn.
    """

    chains: int
    rounds: int
    width: int
    temperature: float
    is_scheduled: bool
    downweights_repeats: bool
    redraws_repeats: bool
    drawn: int = 0
    lost_numbers: int = 0
    repeated: int = 0

    async def draw_round(
        self, run: Run, versions: Sequence[Version], round_number: int
    ) -> list[Version]:
        """Draw a retry (round `round_number`, from 1) of each chain whose latest version is retriable."""
        chains = [[v for v in versions if v.chain == chain] for chain in range(self.chains)]
        rejected = [earlier for earlier in chains if earlier and is_retriable(earlier[-1])]
        retry = partial(self._retry, run, round_number)
        drawn = await run.map(retry, rejected, width=self.width, min_results=0)
        return [each for each in drawn if each is not None]

    async def _retry(
        self, run: Run, round_number: int, earlier: Sequence[Version]
    ) -> Version | None:
        """Retry a chain with the versions `earlier`; None if the retry was dropped."""
        for redraw in range(MAX_REDRAWS + 1):
            version = await self._draw(run, earlier, round_number, redraw)
            if version is None or not self._must_redraw(version, earlier):
                return version
        return None

    async def _draw(
        self, run: Run, earlier: Sequence[Version], round_number: int, redraw: int
    ) -> Version | None:
        """Draw one retry with its test verdict; None if it lost the numbers of the earlier versions."""
        completion = await self._ask(run, earlier, round_number, redraw)
        self.drawn += 1
        candidate = run.candidate(completion)
        conclude = run.model().profile.conclusion
        others = (conclude(each.completion.text) for each in (earlier[0], earlier[-1]))
        if run.task.kind == "math" and loses_numbers(conclude(completion.text), *others):
            self.lost_numbers += 1
            return None
        ballot = await run.class_of(candidate)
        is_repeat = ballot is not None and any(each.ballot == ballot for each in earlier)
        self.repeated += is_repeat
        version = Version(
            chain=earlier[0].chain,
            round=round_number,
            completion=completion,
            candidate=candidate,
            ballot=ballot,
            is_repeat=is_repeat and self.downweights_repeats,
        )
        return await with_test_verdict(run, version)

    async def _ask(
        self, run: Run, earlier: Sequence[Version], round_number: int, redraw: int
    ) -> Completion:
        temperature = self.temperature
        if self.is_scheduled:
            temperature = retry_temperature(temperature, round_number)
        ask = partial(
            run.ask,
            after="question",
            index=earlier[0].chain + self.chains * (round_number + redraw * (self.rounds + 1)),
            draw=Draw(temperature=temperature),
        )
        critique = _issues(run, earlier[-1])
        if answers := _answers_tried(run, earlier):
            return await ask("retry", tried=answers, critique=critique)
        return await ask("retry_unseen", critique=critique)

    def _must_redraw(self, version: Version, earlier: Sequence[Version]) -> bool:
        """Return whether the version repeats an answer that tests, rather than a critic, rejected."""
        return self.redraws_repeats and any(
            each.ballot == version.ballot is not None and each.is_rejected and _is_external(each)
            for each in earlier
        )


def is_retriable(version: Version) -> bool:
    """Return whether the version was rejected with issues that a retry prompt can contain."""
    verdict = version.verdict
    return verdict is not None and verdict.is_wrong and verdict.issues is not None


def retry_temperature(temperature: float, round_number: int) -> float:
    """Return the scheduled temperature of a retry, which rises per round (from 1) to at most 1.2.

    `temperature` is that of the drafts.
    """
    return min(temperature + TEMPERATURE_STEP * round_number, MAX_TEMPERATURE)


def loses_numbers(text: str, *others: str) -> bool:
    """Return whether a text has at least 3 (`MAX_LOST_NUMBERS` + 1) numbers fewer than each of `others`."""
    return _count_numbers(text) < min(map(_count_numbers, others)) - MAX_LOST_NUMBERS


def _count_numbers(text: str) -> int:
    return len(_NUMBER.findall(text))


def _is_external(version: Version) -> bool:
    return version.verdict is not None and version.verdict.is_external


def _issues(run: Run, version: Version) -> str:
    issues = version.verdict.issues if version.verdict is not None else None
    return shown_issues(issues or (), run.model().profile.conclusion(version.completion.text))


def _answers_tried(run: Run, earlier: Sequence[Version]) -> list[str]:
    """Return the distinct answers tried, in order; none if an answer is the whole version, as in code."""
    if run.task.kind in ("open", "code"):
        return []
    answers: dict[int, str] = {}
    for each in earlier:
        if each.ballot is not None and each.candidate.answer is not None:
            answers.setdefault(each.ballot, each.candidate.answer)
    return list(answers.values())
