"""`secondpass calibrate`: write a calibration file with how well a model grades its own drafts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
from pydantic import ValidationError

from secondpass.service.cli.calibrate.grading import (
    DraftGrades,
    fit_calibration,
    grade_kinds,
    make_grader,
)
from secondpass.service.cli.calibrate.options import EPILOG, CalibrateOptions, add_options
from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.failure import FAILED, REFUSED, Failure
from secondpass.service.cli.common.local_service import local_service
from secondpass.service.cli.common.output import print_text
from secondpass.service.common import validation
from secondpass.service.common.concurrency import Emit, gather
from secondpass.service.common.events import Trace
from secondpass.service.config.calibration_files import save_calibration
from secondpass.service.http.state import Service
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.questions import Question, read_all
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.calibration import Calibration, GradeCalibration
from secondpass.strategies.api.errors import CapabilityMissing, EngineError
from secondpass.strategies.api.values import Sampling

LINE_SECONDS = 30.0
"""Interval between progress lines."""

GRADABLE = ("math", "choice")
"""Task kinds whose answers can be compared without running code."""


def calibrate(options: CalibrateOptions) -> None:
    """Draw and grade drafts, fit the calibration and write the file. Raises Failure."""
    flags, sampling = _flags(options), _sampling(options)
    out = Path(options.out)
    if not out.parent.is_dir():
        raise Failure(f"--out: the folder {out.parent} does not exist", REFUSED)
    try:
        questions = _questions(options)
    except BadLine as error:
        raise Failure(str(error), REFUSED) from error
    calibration = anyio.run(_measure, options, flags, questions, sampling)
    try:
        save_calibration(out, calibration)
    except OSError as error:
        raise Failure(f"--out {out}: {error.strerror}") from error
    print_text(summary(calibration))


def _questions(options: CalibrateOptions) -> tuple[Question, ...]:
    """Return the questions. Raises BadLine for a kind that cannot be graded."""
    found = read_all([Path(path) for path in options.data], options.task, limit=options.limit)
    for question in found:
        if question.task.kind not in GRADABLE:
            problem = f"kind: must be one of {', '.join(GRADABLE)}, not {question.task.kind!r}"
            raise BadLine(question.path, question.line, problem)
    return found


def _sampling(options: CalibrateOptions) -> Sampling:
    """Return the sampling parameters of the drafts. Raises Failure for an invalid option."""
    if options.temperature == 0 and options.samples > 1:
        raise Failure(
            "--temperature: 0 makes all drafts of a question equal; use --n 1 or a higher value",
            REFUSED,
        )
    values = {"temperature": options.temperature, "max_tokens": options.max_tokens}
    try:
        return Sampling.model_validate(values | {"seed": options.first_seed})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = f"--{str(problem['loc'][0]).replace('_', '-')}"
        raise Failure(f"{name}: {validation.message_with_value(problem)}", REFUSED) from error


def summary(calibration: Calibration) -> str:
    """Return one line per kind of grades; the first is for grades of whole solutions."""
    lines = [f"{calibration.model}: {_line(calibration)}"]
    lines += [f"{kind}: {_line(measured)}" for kind, measured in calibration.grades.items()]
    return "\n".join(lines)


def _line(measured: GradeCalibration) -> str:
    use = "used as vote weights" if measured.is_useful else "not used as vote weights"
    mass = "" if measured.mass is None else f", label mass {measured.mass:.2f}"
    return (
        f"auroc {measured.auroc:.3f} over {measured.n} drafts, "
        f"{measured.accuracy:.0%} of them right; temperature {measured.temperature:.2f}{mass}; {use}"
    )


def _flags(options: CalibrateOptions) -> list[str]:
    """Return the flags of `serve` that configure the engine. Raises Failure."""
    values = {
        "--engine-url": options.engine_url,
        "--model": options.model,
        "--engine-key-env": options.engine_key_env,
    }
    given = [part for flag, value in values.items() if value is not None for part in (flag, value)]
    if given and options.serve_flags:
        raise Failure(f"{given[0]}: give the engine by options or after --, not both", REFUSED)
    if not (given or options.serve_flags):
        raise Failure(
            "no engine: set --engine-url and --model, or add flags of serve after --", REFUSED
        )
    return ["--engine", "http", *given] if given else list(options.serve_flags)


async def _measure(
    options: CalibrateOptions,
    flags: Sequence[str],
    questions: Sequence[Question],
    sampling: Sampling,
) -> Calibration:
    async with local_service(flags, options.wait) as service, service.shared.equivalence:
        engine = service.roles["actor"].engine
        if "labels" not in engine.capabilities:
            raise Failure(str(CapabilityMissing(engine.name, ["labels"])))
        try:
            graded = await _grade_all(options, service, questions, sampling)
        except EngineError as error:
            raise Failure(f"engine {engine.name!r}: {error}", FAILED) from error
        return fit_calibration(
            engine.model, graded, grade_kinds(options.also), _digest(options), _print_status
        )


def _digest(options: CalibrateOptions) -> str:
    return hashlib.sha256(b"".join(Path(path).read_bytes() for path in options.data)).hexdigest()


async def _grade_all(
    options: CalibrateOptions, service: Service, questions: Sequence[Question], sampling: Sampling
) -> list[DraftGrades]:
    async def grade_drafts(question: Question, emit: Emit[DraftGrades]) -> None:
        run = LiveRun(_spec(service, question, sampling), service.shared, Trace())
        grader = await make_grader(run, options.also)
        async with grader.drafts(options.samples, options.temperature) as drafts:
            async for draft in drafts:
                if (grades := await grader.grade(draft, question.answer)) is not None:
                    emit(grades)

    graded: list[DraftGrades] = []
    drafts = len(questions) * options.samples
    due = time.monotonic() + LINE_SECONDS
    async with gather(grade_drafts, questions, width=options.concurrency) as results:
        async for grades in results:
            graded.append(grades)
            if time.monotonic() >= due:
                due = time.monotonic() + LINE_SECONDS
                _print_status(f"{len(graded)} of {drafts} drafts graded")
    for kind in ("solution", *grade_kinds(options.also)):
        ungraded = drafts - sum(kind in grades.grades for grades in graded)
        if ungraded > 0:
            of = "" if kind == "solution" else f" ({kind})"
            _print_status(
                f"{ungraded} drafts do not count: no answer, or drawing or grading failed{of}"
            )
    return graded


def _spec(service: Service, question: Question, sampling: Sampling) -> RunSpec:
    strategy = STRATEGIES["single"]
    upstream = service.roles["actor"].upstream
    profile = service.settings.profile_of(upstream.engine.model)
    return RunSpec(
        id=f"calibrate-{question.id}",
        strategy=strategy,
        params=strategy.defaults,
        messages=question.messages,
        task=question.task.as_task(),
        task_is_explicit=True,
        upstreams={"actor": upstream, "judge": upstream},
        profiles={"actor": profile, "judge": profile},
        sampling=sampling,
    )


def _print_status(line: str) -> None:
    print_text(f"secondpass calibrate: {line}", to_stderr=True)


COMMAND = Command(
    name="calibrate",
    summary="measure how well a model grades its own drafts",
    epilog=EPILOG,
    options=CalibrateOptions,
    add=add_options,
    uses_local_service=lambda _: True,
    run=calibrate,
)
