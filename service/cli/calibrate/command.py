"""`secondpass calibrate`: have a model judge drafts of its own whose answers are known, and write down how well it did."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
from pydantic import ValidationError

from secondpass.service.cli.calibrate.judging import Judged, fitted, grader_of, kinds_of
from secondpass.service.cli.calibrate.options import EPILOG, CalibrateOptions, add_options
from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.failure import FAILED, REFUSED, Failure
from secondpass.service.cli.common.own_service import own_service
from secondpass.service.common.concurrency import Emit, gather
from secondpass.service.common.events import Trace
from secondpass.service.config.calibration_files import save_calibration
from secondpass.service.http.state import Service
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.questions import Question, read_all
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.calibration import Calibration, Measured
from secondpass.strategies.api.errors import CapabilityMissing, EngineError
from secondpass.strategies.api.values import Sampling

LINE_SECONDS = 30.0
"""Between two lines of progress."""

GRADED = ("math", "choice")
"""Kinds of tasks whose answers can be compared without running anything."""


def calibrate(options: CalibrateOptions) -> None:
    """Draw, judge, fit, write. Raises Failure."""
    flags, sampling = _flags(options), _sampling(options)
    out = Path(options.out)
    if not out.parent.is_dir():
        raise Failure(f"--out: there is no folder {out.parent}", REFUSED)
    try:
        questions = _questions(options)
    except BadLine as error:
        raise Failure(str(error), REFUSED) from error
    calibration = anyio.run(_measure, options, flags, questions, sampling)
    try:
        save_calibration(out, calibration)
    except OSError as error:
        raise Failure(f"--out {out}: {error.strerror}") from error
    print(summary(calibration))  # noqa: T201 - the command's own output


def _questions(options: CalibrateOptions) -> tuple[Question, ...]:
    """The questions, all of a kind that can be graded. Raises BadLine."""
    found = read_all([Path(path) for path in options.data], options.task, limit=options.limit)
    for question in found:
        if question.task.kind not in GRADED:
            said = f"kind: one of {', '.join(GRADED)}, not {question.task.kind!r}"
            raise BadLine(question.path, question.line, said)
    return found


def _sampling(options: CalibrateOptions) -> Sampling:
    """How drafts are drawn. Raises Failure, naming the option."""
    if options.temperature == 0 and options.samples > 1:
        raise Failure(
            "--temperature: 0 makes all drafts of a question the same; or take --n 1", REFUSED
        )
    values = {"temperature": options.temperature, "max_tokens": options.max_tokens}
    try:
        return Sampling.model_validate(values | {"seed": options.first_seed})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = f"--{str(problem['loc'][0]).replace('_', '-')}"
        raise Failure(f"{name}: {problem['msg']}, not {problem['input']!r}", REFUSED) from error


def summary(calibration: Calibration) -> str:
    """What was found, a line for each kind of grades; the first is of reads of whole solutions."""
    lines = [f"{calibration.model}: {_line(calibration)}"]
    lines += [f"{kind}: {_line(measured)}" for kind, measured in calibration.grades.items()]
    return "\n".join(lines)


def _line(measured: Measured) -> str:
    use = "votes are weighted by it" if measured.is_useful else "votes are not weighted by it"
    mass = "" if measured.mass is None else f", label mass {measured.mass:.2f}"
    return (
        f"auroc {measured.auroc:.3f} over {measured.n} drafts, of which "
        f"{measured.accuracy:.0%} are right; temperature {measured.temperature:.2f}{mass}; {use}"
    )


def _flags(options: CalibrateOptions) -> list[str]:
    """The flags of `serve` that name the engine. Raises Failure."""
    named = {
        "--engine-url": options.engine_url,
        "--model": options.model,
        "--engine-key-env": options.engine_key_env,
    }
    given = [part for flag, value in named.items() if value is not None for part in (flag, value)]
    if given and options.serve_flags:
        raise Failure(f"{given[0]}: name the engine by options or after --, not both", REFUSED)
    if not (given or options.serve_flags):
        raise Failure(
            "no engine: give --engine-url and --model, or serve's flags after --", REFUSED
        )
    return ["--engine", "http", *given] if given else list(options.serve_flags)


async def _measure(
    options: CalibrateOptions,
    flags: Sequence[str],
    questions: Sequence[Question],
    sampling: Sampling,
) -> Calibration:
    async with own_service(flags, options.wait) as service, service.shared.equivalence:
        engine = service.roles["actor"].engine
        if "labels" not in engine.capabilities:
            raise Failure(str(CapabilityMissing(engine.name, ["labels"])))
        try:
            judged = await _judge_all(options, service, questions, sampling)
        except EngineError as error:
            raise Failure(f"engine {engine.name!r}: {error}", FAILED) from error
        return fitted(engine.model, judged, kinds_of(options.also), _digest(options), _say)


def _digest(options: CalibrateOptions) -> str:
    return hashlib.sha256(b"".join(Path(path).read_bytes() for path in options.data)).hexdigest()


async def _judge_all(
    options: CalibrateOptions, service: Service, questions: Sequence[Question], sampling: Sampling
) -> list[Judged]:
    async def one(question: Question, emit: Emit[Judged]) -> None:
        run = LiveRun(_spec(service, question, sampling), service.shared, Trace())
        grader = await grader_of(run, options.also)
        async with grader.drafts(options.samples, options.temperature) as drafts:
            async for draft in drafts:
                if (judged := await grader.judged(draft, question.answer)) is not None:
                    emit(judged)

    found: list[Judged] = []
    due = time.monotonic() + LINE_SECONDS
    async with gather(one, questions, width=options.concurrency) as results:
        async for judged in results:
            found.append(judged)
            if time.monotonic() >= due:
                due = time.monotonic() + LINE_SECONDS
                _say(f"{len(found)} of at most {len(questions) * options.samples} drafts judged")
    for kind in ("solution", *kinds_of(options.also)):
        without = len(questions) * options.samples - sum(kind in each.grades for each in found)
        if without > 0:
            of = "" if kind == "solution" else f" ({kind})"
            _say(
                f"{without} drafts had no answer, or could not be drawn or judged, and do not count{of}"
            )
    return found


def _spec(service: Service, question: Question, sampling: Sampling) -> RunSpec:
    chosen = STRATEGIES["single"]
    upstream = service.roles["actor"].upstream
    profile = service.settings.profile_of(upstream.engine.model)
    return RunSpec(
        id=f"calibrate-{question.id}",
        strategy=chosen,
        params=chosen.defaults,
        messages=question.messages,
        task=question.task.as_task(),
        task_is_explicit=True,
        upstreams={"actor": upstream, "judge": upstream},
        profiles={"actor": profile, "judge": profile},
        sampling=sampling,
    )


def _say(line: str) -> None:
    print(f"secondpass calibrate: {line}", file=sys.stderr, flush=True)  # noqa: T201


COMMAND = Command(
    name="calibrate",
    summary="find out how far a model can judge itself",
    epilog=EPILOG,
    options=CalibrateOptions,
    add=add_options,
    has_service=lambda _: True,
    run=calibrate,
)
