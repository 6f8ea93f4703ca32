"""`secondpass pool replay`: run strategies over a pool, many shuffles each, and keep the attempts for `secondpass results`."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path

import anyio

from secondpass.service.cli.common.failure import FAILED, REFUSED, Failure
from secondpass.service.cli.common.provenance import (
    calibration_words,
    model_name,
    records_file,
    sampling_words,
)
from secondpass.service.cli.pool.asking import replay_and_ask
from secondpass.service.cli.pool.options import ReplayOptions
from secondpass.service.cli.pool.progress import say
from secondpass.service.cli.pool.runs import ReplayPlan, attempt, setting
from secondpass.service.common.errors import BadSettings
from secondpass.service.config.calibration_files import load_calibrations
from secondpass.service.lab.evaluation.records import About, RunRecord, write_records
from secondpass.service.lab.pools.clock import run_virtually
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.pool import Pool, read_pool
from secondpass.service.lab.pools.recorded_answers import (
    RecordedAnswers,
    has_recorded_answers,
    read_recorded_answers,
)
from secondpass.service.lab.pools.replay_run import TimelessEquivalence
from secondpass.strategies.api.calibration import Calibration

SCORED = ("math", "choice")
"""Kinds whose answers are compared: whether code is right shows only when it runs, and of open answers nobody knows."""


def replay_pool(options: ReplayOptions) -> None:
    """Replay every setting on every question and write the records. Raises Failure.

    With the flags of an engine, what the pool lacks is asked of that, and recorded.
    """
    if not options.serve_flags and options.runs_at_once is not None:
        raise Failure("--concurrency: without an engine after -- nothing is asked", REFUSED)
    try:
        recorded = _recorded(options)
        pool = recorded.pool if recorded else read_pool(options.pool)
        out = _out(options)
        plan = _plan(options, pool, recorded)
        if options.serve_flags:
            attempts = anyio.run(replay_and_ask, options, pool.header, plan)
        else:
            attempts = run_virtually(_replay, pool, plan)
    except (BadLine, BadSettings) as error:
        raise Failure(str(error), REFUSED) from error
    write_records(out, _about(options, pool, plan), attempts)
    lost = [attempt for attempt in attempts if attempt.error is not None]
    if lost:
        why = f"{lost[0].label}: {lost[0].error}"
        raise Failure(
            f"{len(lost)} of {len(attempts)} runs have no answer; the first: {why}", FAILED
        )


def _recorded(options: ReplayOptions) -> RecordedAnswers | None:
    """The answers that somebody else recorded, where --pool is a file of these. Raises BadLine, Failure."""
    if not has_recorded_answers(options.pool):
        return None
    if options.serve_flags:
        raise Failure(
            f"after --: {options.pool} holds recorded answers; an engine can add nothing to them",
            REFUSED,
        )
    return read_recorded_answers(options.pool)


def _out(options: ReplayOptions) -> Path:
    """Where the records go. Raises Failure before anything is asked for them."""
    out = records_file("--out", options.out)
    if out.exists() and out.samefile(options.pool):
        raise Failure(f"--out: {out} is the pool itself", REFUSED)
    return out


async def _replay(pool: Pool, plan: ReplayPlan) -> list[RunRecord]:
    attempts: list[RunRecord] = []
    async with TimelessEquivalence(workers=2) as equivalence:
        for each in plan.settings:
            attempts += [
                (await attempt(pool, plan, trial, equivalence)).attempt for trial in plan.of(each)
            ]
            count = f"{len(plan.questions)} questions, {plan.shuffles} shuffles"
            say(f"{each.strategy} {each.label}: {count}")
    return attempts


def _plan(options: ReplayOptions, pool: Pool, recorded: RecordedAnswers | None) -> ReplayPlan:
    settings = [setting(text) for text in options.settings]
    for at, each in enumerate(settings):
        if each in settings[:at]:
            raise Failure(f"--setting {options.settings[at]!r}: named twice", REFUSED)
    questions = [q for q in pool.questions.values() if q.id.startswith(options.only)]
    if not questions:
        raise Failure(
            f"--only: no question of {options.pool} begins with {options.only!r}", REFUSED
        )
    for question in questions:
        if question.task.kind not in SCORED:
            scored = " and ".join(SCORED)
            raise Failure(
                f"{options.pool}:{pool.lines[question.id]}: kind: {question.task.kind!r} "
                f"is not scored in a replay; {scored} are",
                REFUSED,
            )
    return ReplayPlan(
        settings=settings,
        questions=questions,
        shuffles=options.shuffles,
        seed=pool.header.seed if options.run_seed is None else options.run_seed,
        calibration=_calibration(options, pool.header.model),
        recorded=recorded,
    )


def _calibration(options: ReplayOptions, model: str) -> Calibration | None:
    if options.calibrations is None:
        return None
    known = load_calibrations(Path(options.calibrations))
    if model not in known:
        others = ", ".join(sorted(known))
        raise Failure(
            f"--calibrations: the pool's model is {model!r}, they are of {others}", REFUSED
        )
    return known[model]


def _about(options: ReplayOptions, pool: Pool, plan: ReplayPlan) -> About:
    data = ", ".join(dict.fromkeys(d.name for p in pool.passes for d in p.data))
    return About(
        data=options.only.strip("-") or data or pool.path.stem,
        model=model_name(pool.header.model),
        date=datetime.now(UTC).date().isoformat(),
        command=shlex.join(replay_command(options, plan.shuffles, plan.seed)),
        engine="replay",
        formatted=None if plan.recorded else pool.header.formatted,
        sampling="" if (drawn := pool.header.sampling) is None else sampling_words(drawn),
        calibration=calibration_words(plan.calibration),
    )


def replay_command(options: ReplayOptions, shuffles: int, seed: int) -> list[str]:
    """What decides of the runs, beside the pool and the settings: of files the name alone."""
    words = ["secondpass", "pool", "replay"]
    if options.only:
        words += ["--only", options.only]
    if options.calibrations is not None:
        words += ["--calibrations", Path(options.calibrations).name]
    return [*words, "--shuffles", str(shuffles), "--seed", str(seed)]
