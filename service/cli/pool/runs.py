"""Runs of `secondpass pool replay`: the plan, and the replay of one run as a scored record."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.cli.common.values import param
from secondpass.service.common import validation
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.lab.evaluation.records import RunRecord, Tokens, from_outcome, used_tokens
from secondpass.service.lab.pools.clock import reset_clock
from secondpass.service.lab.pools.format import PoolQuestion
from secondpass.service.lab.pools.pool import Pool
from secondpass.service.lab.pools.recorded_answers import RecordedAnswers
from secondpass.service.lab.pools.replay_run import Replayed, replay_run
from secondpass.service.runs.answer_classes import is_same_answer
from secondpass.service.runs.outcome import Outcome
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Call


@dataclass(frozen=True, slots=True)
class ReplaySetting:
    """A strategy and its parameters. `label` is the text of the parameters on the command line."""

    strategy: str
    params: Mapping[str, Any]
    label: str


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a plan: a setting, a question, and the number of the shuffle."""

    setting: ReplaySetting
    question: PoolQuestion
    shuffle: int

    def failed_record(self, run: Replayed) -> RunRecord:
        """Return the record of a run without an answer: incorrect, with the tokens it used and its error."""
        return RunRecord(
            question=self.question.id,
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
    """Every setting on every question, `shuffles` times.

    Attributes:
        settings: Strategies with their parameters.
        questions: Questions of the pool.
        shuffles: Number of sample orders.
        seed: Seed of every run.
        calibration: Calibration of the judge, if known.
        recorded: Answers whose source decided which are correct. Without it, answers are compared with the reference.
    """

    settings: Sequence[ReplaySetting]
    questions: Sequence[PoolQuestion]
    shuffles: int
    seed: int
    calibration: Calibration | None = None
    recorded: RecordedAnswers | None = None

    @property
    def runs(self) -> list[PlannedRun]:
        """All runs, in the order of the settings."""
        return [run for setting in self.settings for run in self.runs_of(setting)]

    def runs_of(self, setting: ReplaySetting) -> Iterator[PlannedRun]:
        """Yield the runs of one setting."""
        for question in self.questions:
            for shuffle in range(self.shuffles):
                yield PlannedRun(setting, question, shuffle)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The record of a replayed run, and the calls that the pool lacks for it."""

    record: RunRecord
    missing: tuple[Call, ...] = ()


def parse_setting(text: str) -> ReplaySetting:
    """Parse `NAME KEY=VALUE ...`. Raises Failure for an unknown strategy or an invalid parameter."""
    name, *pairs = text.split()
    if name not in STRATEGIES:
        raise Failure(
            f"--setting: unknown strategy {name!r}; must be one of: {', '.join(STRATEGIES)}",
            REFUSED,
        )
    try:
        params = dict(map(param, pairs))
        STRATEGIES[name].params.model_validate(params)
    except ArgumentTypeError as error:
        raise Failure(f"--setting {text!r}: {error}", REFUSED) from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = f"{problem['loc'][-1] if problem['loc'] else 'params'}: "
        message = field + validation.message_with_value(problem).removeprefix(field)
        raise Failure(f"--setting {text!r}: {message}", REFUSED) from error
    return ReplaySetting(name, params, " ".join(pairs))


async def replay_planned(
    pool: Pool, plan: ReplayPlan, planned: PlannedRun, equivalence: Equivalence
) -> ReplayResult:
    """Replay one run of the plan over the pool and score its answers."""
    setting, question = planned.setting, planned.question
    await reset_clock()
    run = await replay_run(
        pool,
        question,
        setting.strategy,
        setting.params,
        equivalence,
        shuffle=planned.shuffle,
        seed=plan.seed,
        calibration=plan.calibration,
    )
    if run.outcome is None:
        return ReplayResult(planned.failed_record(run), run.missing)
    task = question.task.as_task()
    right = {
        answer: plan.recorded.is_correct(question.id, answer)
        if plan.recorded
        else await is_same_answer(task, equivalence, question.answer, answer)
        for answer in _answers(run.outcome)
    }
    record = from_outcome(
        run.outcome,
        question.answer,
        lambda answer, _: right[answer],
        question=question.id,
        strategy=setting.strategy,
        setting=setting.label,
        shuffle=planned.shuffle,
        events=run.trace.events,
    )
    return ReplayResult(record if _counts_tokens(pool) else replace(record, usage=Tokens()))


def _counts_tokens(pool: Pool) -> bool:
    """Return whether the engine reported token counts. Otherwise usage is that of leases."""
    return all("token_counts" in each.capabilities for each in pool.passes)


def _answers(outcome: Outcome) -> Iterator[str]:
    found = (c.answer for c in (outcome.candidate, *outcome.candidates))
    yield from dict.fromkeys(answer for answer in found if answer is not None)
