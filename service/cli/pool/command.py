"""`secondpass pool`: record samples of a model into a pool, and replay strategies over it."""

from __future__ import annotations

from pathlib import Path

import anyio

from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.failure import FAILED, REFUSED, Failure
from secondpass.service.cli.common.local_service import local_service
from secondpass.service.cli.common.provenance import output_file
from secondpass.service.cli.pool.options import (
    EPILOG,
    PoolOptions,
    RecordOptions,
    ReplayOptions,
    add_options,
)
from secondpass.service.cli.pool.progress import ProgressCounter, print_status, report_progress
from secondpass.service.cli.pool.replay import replay_pool
from secondpass.service.lab.pools.format import Header, Sample
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.pool import open_pool
from secondpass.service.lab.pools.questions import Question, read_all
from secondpass.service.lab.pools.record import (
    DrawFailed,
    add_questions,
    missing_samples,
    new_pass,
    record,
)
from secondpass.strategies.api.values import Sampling


def pool(options: PoolOptions) -> None:
    """Run the action."""
    if options.action == "replay":
        replay_pool(ReplayOptions(**vars(options)))
    else:
        record_pool(RecordOptions(**vars(options)))


def record_pool(options: RecordOptions) -> None:
    """Draw the samples that the pool lacks. Raises Failure."""
    output_file("--out", options.out)
    if len(dict(options.note)) < len(options.note):
        raise Failure("--note: a key is given twice", REFUSED)
    try:
        questions = read_all(
            [Path(path) for path in options.data], options.task, limit=options.limit
        )
        anyio.run(_record, options, questions)
    except BadLine as error:
        raise Failure(str(error), REFUSED) from error
    except DrawFailed as error:
        raise Failure(f"{error}; the same command resumes", FAILED) from error


async def _record(options: RecordOptions, questions: tuple[Question, ...]) -> None:
    async with local_service(options.serve_flags, options.wait) as service:
        upstream = service.roles["actor"].upstream
        engine = upstream.engine
        if "logprobs" not in engine.capabilities:
            print_status(
                f"the engine of {engine.model} reports no log probabilities, so samples have none"
            )
        header = Header(
            model=engine.model,
            sampling=Sampling(temperature=options.temperature, max_tokens=options.max_tokens),
            seed=options.first_seed,
            formatted=options.prompt_format == "on",
            logprobs=options.logprobs if "logprobs" in engine.capabilities else None,
        )
        with open_pool(Path(options.out), header) as pool_file:
            if dropped := pool_file.dropped_bytes:
                print_status(
                    f"{options.out}: removed an incomplete last line ({dropped} bytes); its sample is drawn again"
                )
            data = [Path(path) for path in options.data]
            add_questions(pool_file, questions)
            missing = missing_samples(pool_file.pool, questions, options.samples)
            if not missing:
                print_status(
                    f"{options.out} already has {options.samples} samples of each question"
                )
                return
            pool_file.add(new_pass(engine, data, questions, options.samples, dict(options.note)))
            print_status(
                f"drawing {len(missing)} samples of {len(questions)} questions from "
                f"{engine.model}, {options.concurrency} at a time"
            )
            counter = ProgressCounter(len(missing), "samples")
            with report_progress(counter) as advance:

                def on_sample(sample: Sample) -> None:
                    counter.add_call(sample.tokens)
                    advance(1)

                await record(
                    upstream,
                    pool_file,
                    missing,
                    concurrency=options.concurrency,
                    on_sample=on_sample,
                )


COMMAND = Command(
    name="pool",
    summary="record samples of a model, and replay strategies over them",
    epilog=EPILOG,
    options=PoolOptions,
    add=add_options,
    uses_local_service=lambda _: True,
    run=pool,
    interrupted="interrupted; finished samples are in the pool, and the same command resumes",
)
