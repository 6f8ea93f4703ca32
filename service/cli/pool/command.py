"""`secondpass pool`: fill a pool of samples from an engine of its own, and say what is in one."""

from __future__ import annotations

from pathlib import Path

import anyio

from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.failure import FAILED, REFUSED, Failure
from secondpass.service.cli.common.own_service import own_service
from secondpass.service.cli.common.provenance import output_file
from secondpass.service.cli.pool.options import (
    EPILOG,
    PoolOptions,
    RecordOptions,
    ReplayOptions,
    add_options,
)
from secondpass.service.cli.pool.progress import Tally, progress, say
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
    """Run the action that was named."""
    if options.action == "replay":
        replay_pool(ReplayOptions(**vars(options)))
    else:
        record_pool(RecordOptions(**vars(options)))


def record_pool(options: RecordOptions) -> None:
    """Draw what the pool lacks. Raises Failure."""
    output_file("--out", options.out)
    if len(dict(options.note)) < len(options.note):
        raise Failure("--note: one key is given twice", REFUSED)
    try:
        questions = read_all(
            [Path(path) for path in options.data], options.task, limit=options.limit
        )
        anyio.run(_record, options, questions)
    except BadLine as error:
        raise Failure(str(error), REFUSED) from error
    except DrawFailed as error:
        raise Failure(f"{error}; the same command goes on from here", FAILED) from error


async def _record(options: RecordOptions, questions: tuple[Question, ...]) -> None:
    async with own_service(options.serve_flags, options.wait) as service:
        upstream = service.roles["actor"].upstream
        engine = upstream.engine
        if "logprobs" not in engine.capabilities:
            say(f"{engine.model} is served without log probabilities: samples will have none")
        header = Header(
            model=engine.model,
            sampling=Sampling(temperature=options.temperature, max_tokens=options.max_tokens),
            seed=options.first_seed,
            formatted=options.prompt_format == "on",
            logprobs=options.logprobs if "logprobs" in engine.capabilities else None,
        )
        with open_pool(Path(options.out), header) as book:
            if book.dropped_bytes:
                say(
                    f"{options.out}: the last line was cut ({book.dropped_bytes} bytes); it is drawn again"
                )
            data = [Path(path) for path in options.data]
            add_questions(book, questions)
            wanted = missing_samples(book.pool, questions, options.samples)
            if not wanted:
                say(f"{options.out} has {options.samples} samples of each question already")
                return
            book.add(new_pass(engine, data, questions, options.samples, dict(options.note)))
            say(
                f"{len(wanted)} samples of {len(questions)} questions are to be drawn from "
                f"{engine.model}, {options.concurrency} at once"
            )
            tally = Tally(len(wanted), "samples")
            with progress(tally) as step:

                def on_sample(sample: Sample) -> None:
                    tally.drew(sample.tokens)
                    step(1)

                await record(
                    upstream, book, wanted, concurrency=options.concurrency, on_sample=on_sample
                )


COMMAND = Command(
    name="pool",
    summary="record what a model writes, to replay it later",
    epilog=EPILOG,
    options=PoolOptions,
    add=add_options,
    has_service=lambda _: True,
    run=pool,
    interrupted="interrupted; what was drawn is in the pool, and the same command goes on from there",
)
