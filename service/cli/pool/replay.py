"""`secondpass pool replay`: run strategies over a pool, and write a record of every run."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path

import anyio

from secondpass.service.cli.common.failure import FAILED, REFUSED, Failure
from secondpass.service.cli.common.provenance import (
    describe_calibration,
    describe_sampling,
    model_name,
    records_file,
)
from secondpass.service.cli.pool.options import ReplayOptions
from secondpass.service.cli.pool.progress import print_status
from secondpass.service.cli.pool.replay_with_engine import replay_with_engine
from secondpass.service.cli.pool.runs import ReplayPlan, parse_setting, replay_planned
from secondpass.service.common.errors import BadSettings
from secondpass.service.config.calibration_files import load_calibrations
from secondpass.service.lab.evaluation.records import RecordHeader, RunRecord, write_records
from secondpass.service.lab.pools.clock import run_virtually
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.pool import Pool, read_pool
from secondpass.service.lab.pools.recorded_answers import (
    RecordedAnswers,
    has_recorded_answers,
    read_recorded_answers,
)
from secondpass.service.lab.pools.replay_run import VirtualTimeEquivalence
from secondpass.strategies.api.calibration import Calibration

SCORED = ("math", "choice")
"""Kinds that can be scored in a replay. Code would have to run, and open answers have no reference."""


def replay_pool(options: ReplayOptions) -> None:
    """Replay every setting on every question and write the records.

    With flags of `serve`, missing samples are drawn from that engine and added to the pool.

    Raises:
        Failure: An option, the pool or the engine is invalid, or a run has no answer. In the last case the records are
            written first.
    """
    if not options.serve_flags and options.runs_at_once is not None:
        raise Failure("--concurrency needs an engine: add flags of serve after --", REFUSED)
    try:
        recorded = _recorded_answers(options)
        pool = recorded.pool if recorded else read_pool(options.pool)
        out = _records_path(options)
        plan = _plan(options, pool, recorded)
        if options.serve_flags:
            records = anyio.run(replay_with_engine, options, pool.header, plan)
        else:
            records = run_virtually(_replay, pool, plan)
    except (BadLine, BadSettings) as error:
        raise Failure(str(error), REFUSED) from error
    write_records(out, _about(options, pool, plan), records)
    failed = [record for record in records if record.error is not None]
    if failed:
        first = f"{failed[0].label}: {failed[0].error}"
        raise Failure(
            f"{len(failed)} of {len(records)} runs have no answer; the first: {first}", FAILED
        )


def _recorded_answers(options: ReplayOptions) -> RecordedAnswers | None:
    """Return the answers from another source if --pool contains such. Raises BadLine, Failure."""
    if not has_recorded_answers(options.pool):
        return None
    if options.serve_flags:
        raise Failure(
            f"after --: {options.pool} contains answers from another source, which no engine can extend",
            REFUSED,
        )
    return read_recorded_answers(options.pool)


def _records_path(options: ReplayOptions) -> Path:
    """Return the path of the records. Raises Failure if they cannot be written there."""
    out = records_file("--out", options.out)
    if out.exists() and out.samefile(options.pool):
        raise Failure(f"--out: {out} is the pool", REFUSED)
    return out


async def _replay(pool: Pool, plan: ReplayPlan) -> list[RunRecord]:
    records: list[RunRecord] = []
    async with VirtualTimeEquivalence(workers=2) as equivalence:
        for setting in plan.settings:
            records += [
                (await replay_planned(pool, plan, planned, equivalence)).record
                for planned in plan.runs_of(setting)
            ]
            count = f"{len(plan.questions)} questions, {plan.shuffles} shuffles"
            print_status(f"{setting.strategy} {setting.label}: {count}")
    return records


def _plan(options: ReplayOptions, pool: Pool, recorded: RecordedAnswers | None) -> ReplayPlan:
    settings = [parse_setting(text) for text in options.settings]
    for number, setting in enumerate(settings):
        if setting in settings[:number]:
            raise Failure(f"--setting {options.settings[number]!r}: given twice", REFUSED)
    questions = [q for q in pool.questions.values() if q.id.startswith(options.only)]
    if not questions:
        raise Failure(
            f"--only: no question id of {options.pool} begins with {options.only!r}", REFUSED
        )
    for question in questions:
        if question.task.kind not in SCORED:
            raise Failure(
                f"{options.pool}:{pool.lines[question.id]}: kind: {question.task.kind!r} "
                f"cannot be scored in a replay; must be one of: {', '.join(SCORED)}",
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
            f"--calibrations: no calibration of the pool's model {model!r}; found: {others}",
            REFUSED,
        )
    return known[model]


def _about(options: ReplayOptions, pool: Pool, plan: ReplayPlan) -> RecordHeader:
    data = ", ".join(dict.fromkeys(d.name for p in pool.passes for d in p.data))
    return RecordHeader(
        data=options.only.strip("-") or data or pool.path.stem,
        model=model_name(pool.header.model),
        date=datetime.now(UTC).date().isoformat(),
        command=shlex.join(replay_command(options, plan.shuffles, plan.seed)),
        engine="replay",
        formatted=None if plan.recorded else pool.header.formatted,
        sampling="" if (drawn := pool.header.sampling) is None else describe_sampling(drawn),
        calibration=describe_calibration(plan.calibration),
    )


def replay_command(options: ReplayOptions, shuffles: int, seed: int) -> list[str]:
    """Return the arguments that affect the runs, except --pool and --setting.

    Files are reduced to their names.
    """
    words = ["secondpass", "pool", "replay"]
    if options.only:
        words += ["--only", options.only]
    if options.calibrations is not None:
        words += ["--calibrations", Path(options.calibrations).name]
    return [*words, "--shuffles", str(shuffles), "--seed", str(seed)]
