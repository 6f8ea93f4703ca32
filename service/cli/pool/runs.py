"""The runs of `secondpass pool replay`: which there are, and one of them as an attempt."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.cli.common.values import param
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.lab.evaluation.records import RunRecord, Tokens, from_outcome, used_tokens
from secondpass.service.lab.pools.clock import reset_clock
from secondpass.service.lab.pools.format import PoolQuestion
from secondpass.service.lab.pools.pool import Pool
from secondpass.service.lab.pools.recorded_answers import RecordedAnswers
from secondpass.service.lab.pools.replay_run import Replayed, replay_run
from secondpass.service.runs.answer_classes import AnswerClasses
from secondpass.service.runs.outcome import Outcome
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Call


@dataclass(frozen=True, slots=True)
class ReplaySetting:
    """A strategy and its parameters; `label` is the parameters as they were typed."""

    strategy: str
    params: Mapping[str, Any]
    label: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One run that is to be made."""

    setting: ReplaySetting
    asked: PoolQuestion
    shuffle: int

    def failed(self, run: Replayed) -> RunRecord:
        """The attempt that this is without an answer: it counts as wrong, with what it had spent, and says what ended it."""
        return RunRecord(
            question=self.asked.id,
            strategy=self.setting.strategy,
            setting=self.setting.label,
            shuffle=self.shuffle,
            correct=False,
            usage=used_tokens(run.trace.events),
            seconds=run.seconds,
            error=str(run.failure),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """Every setting on every question, `shuffles` times; all with one seed, and with what is known of the judge.

    `recorded` says which answers are right where whoever recorded them said so; else they are compared.
    """

    settings: Sequence[ReplaySetting]
    questions: Sequence[PoolQuestion]
    shuffles: int
    seed: int
    calibration: Calibration | None = None
    recorded: RecordedAnswers | None = None

    @property
    def trials(self) -> list[Trial]:
        """All runs, in the order of the settings."""
        return [trial for setting in self.settings for trial in self.of(setting)]

    def of(self, setting: ReplaySetting) -> Iterator[Trial]:
        """The runs of one setting."""
        for asked in self.questions:
            for shuffle in range(self.shuffles):
                yield Trial(setting, asked, shuffle)


@dataclass(frozen=True, slots=True)
class Tried:
    """A run over a pool as an attempt, and the draws that the pool lacks for it."""

    attempt: RunRecord
    lacking: tuple[Call, ...] = ()


def setting(text: str) -> ReplaySetting:
    """A setting as it is typed: NAME KEY=VALUE ... Raises Failure for what there is not."""
    name, *pairs = text.split()
    if name not in STRATEGIES:
        raise Failure(f"--setting: no strategy {name!r}; one of {', '.join(STRATEGIES)}", REFUSED)
    try:
        params = dict(map(param, pairs))
        STRATEGIES[name].params.model_validate(params)
    except ArgumentTypeError as error:
        raise Failure(f"--setting {text!r}: {error}", REFUSED) from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = f"{problem['loc'][-1] if problem['loc'] else 'params'}: "
        said = where + problem["msg"].removeprefix(where)
        raise Failure(f"--setting {text!r}: {said}", REFUSED) from error
    return ReplaySetting(name, params, " ".join(pairs))


async def attempt(pool: Pool, plan: ReplayPlan, trial: Trial, equivalence: Equivalence) -> Tried:
    """Make one run of the plan over the pool, and grade its answers."""
    setting, asked = trial.setting, trial.asked
    await reset_clock()
    run = await replay_run(
        pool,
        asked,
        setting.strategy,
        setting.params,
        equivalence,
        shuffle=trial.shuffle,
        seed=plan.seed,
        calibration=plan.calibration,
    )
    if run.outcome is None:
        return Tried(trial.failed(run), run.missing)
    classes = AnswerClasses(asked.task.as_task(), equivalence)
    gold = None if plan.recorded else await classes.of(asked.answer)
    right = {
        answer: plan.recorded.is_correct(asked.id, answer)
        if plan.recorded
        else await classes.of(answer) == gold
        for answer in _answers(run.outcome)
    }
    graded = from_outcome(
        run.outcome,
        asked.answer,
        lambda answer, _: right[answer],
        question=asked.id,
        strategy=setting.strategy,
        setting=setting.label,
        shuffle=trial.shuffle,
        events=run.trace.events,
    )
    return Tried(graded if _counts_tokens(pool) else replace(graded, usage=Tokens()))


def _counts_tokens(pool: Pool) -> bool:
    """Is it known what samples cost? Else bills are of leases, and say nothing."""
    return all("token_counts" in each.capabilities for each in pool.passes)


def _answers(outcome: Outcome) -> Iterator[str]:
    found = (c.answer for c in (outcome.candidate, *outcome.candidates))
    yield from dict.fromkeys(answer for answer in found if answer is not None)
