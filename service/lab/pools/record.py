"""Draws what a pool lacks: many questions at once, and each sample filed the moment it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from secondpass import __version__
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.concurrency import task_group
from secondpass.service.lab.pools.drawing import draw
from secondpass.service.lab.pools.format import DataFile, Header, Pass, PoolQuestion, Sample, key_of
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.pool import Pool, PoolFile, has_confidences, is_enough
from secondpass.service.lab.pools.questions import Question
from secondpass.service.runs.answer_format import instructed
from secondpass.strategies.api.engine import Call, Engine
from secondpass.strategies.api.errors import EngineError
from secondpass.strategies.api.values import SOLVE, Sampling

ROUND = 4
"""Samples that every question gets before any gets more: what is there of a pool is balanced."""


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """One sample that is still to be drawn."""

    question: Question
    call: Call


class DrawFailed(EngineError):
    """A sample that could not be drawn; the text names its question. What was drawn before is in the pool."""


def sample_call(question: Question, header: Header, index: int = 0) -> Call:
    """The call that draws a sample, as a run with this sampling and seed would make it for the question itself."""
    task = question.task.as_task()
    messages = instructed(question.messages, task) if header.formatted else question.messages
    seed = {"seed": header.seed + index}
    return Call(
        role="actor",
        purpose=SOLVE,
        messages=messages,
        index=index,
        sampling=(header.sampling or Sampling()).model_copy(update=seed),
        logprobs=header.logprobs,
    )


def new_pass(
    engine: Engine,
    data: Sequence[Path],
    questions: Sequence[Question],
    n: int,
    notes: dict[str, str],
) -> Pass:
    """The line that tells of this run of the recorder. Raises BadLine for a file that is gone."""
    return Pass(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        secondpass=__version__,
        engine=engine.name,
        capabilities=tuple(sorted(engine.capabilities)),
        context_window=engine.context_window,
        n=n,
        data=tuple(_data_file(path, questions) for path in data),
        notes=notes,
    )


def _data_file(path: Path, questions: Sequence[Question]) -> DataFile:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadLine(path, None, error.strerror or str(error)) from error
    count = sum(question.path == path for question in questions)
    return DataFile(name=path.name, sha256=digest, questions=count)


def add_questions(book: PoolFile, questions: Sequence[Question]) -> None:
    """See to it that all questions are in the pool. Raises BadLine for one that was asked in other words there."""
    pool = book.pool
    for question in questions:
        call = sample_call(question, pool.header)
        asked = PoolQuestion(
            id=question.id,
            key=key_of(call),
            question=question.question,
            answer=question.answer,
            task=question.task,
            messages=call.messages,
        )
        if question.id not in pool.questions:
            book.add(asked)
        elif (recorded := pool.questions[question.id]) != asked:
            field = next(name for name, value in recorded if value != getattr(asked, name))
            field = "messages" if field == "key" else field
            problem = f"question {question.id!r} has another {field} than in {question.location}"
            raise BadLine(pool.path, pool.lines[question.id], problem)


def missing_samples(pool: Pool, questions: Sequence[Question], n: int) -> list[PlannedSample]:
    """What is still to be drawn for `n` samples of each question, in the order in which to draw it.

    Questions in the same words share their samples, as they would get the same ones from an engine. What a strategy asked
    for under a smaller cap, and was cut by it, is drawn again.
    """
    wanted = []
    cap = None if (drawn := pool.header.sampling) is None else drawn.max_tokens
    there = {place: pool.find(*place, cap) for place in pool.samples}
    taken = {place for place, found in there.items() if found and is_enough(found, cap)}
    for start in range(0, n, ROUND):
        for question in questions:
            call = sample_call(question, pool.header)
            key = key_of(call)
            for index in range(start, min(n, start + ROUND)):
                if (key, index) not in taken:
                    taken.add((key, index))
                    seed = {"seed": pool.header.seed + index}
                    sampling = call.sampling.model_copy(update=seed)
                    wanted.append(
                        PlannedSample(question, replace(call, index=index, sampling=sampling))
                    )
    return wanted


async def record(
    upstream: Upstream,
    book: PoolFile,
    wanted: Sequence[PlannedSample],
    *,
    concurrency: int,
    on_sample: Callable[[Sample], None],
) -> None:
    """Draw all that is wanted, at most `concurrency` samples at once.

    Raises DrawFailed for the first that fails, once those that were being drawn beside it have ended.
    """
    queue = iter(wanted)
    failures: list[DrawFailed] = []

    async def draw_on() -> None:
        for want in queue:
            try:
                samples = await draw(upstream, want.call, want.question.id)
                _check_told(upstream.engine, want.call, samples)
            except EngineError as error:
                failures.append(_not_drawn(want, error))
                return
            for sample in samples:
                book.add(sample)
                on_sample(sample)
            if failures:
                return

    async with task_group() as group:
        for _ in range(min(concurrency, len(wanted))):
            group.start_soon(draw_on)
    if failures:
        raise failures[0]


def _check_told(engine: Engine, call: Call, samples: Sequence[Sample]) -> None:
    """Raise EngineError where confidences were asked for and not told: no later replay could know."""
    if call.logprobs and not all(map(has_confidences, samples)):
        raise EngineError(
            f"no log probabilities of {call.logprobs} alternatives came, which were asked for (--logprobs)",
            engine=engine.name,
            role=call.role,
        )


def _not_drawn(want: PlannedSample, error: EngineError) -> DrawFailed:
    where = f"question {want.question.id!r} ({want.question.location})"
    failure = DrawFailed(f"{where}: {error}", engine=error.engine, role=error.role)
    failure.__cause__ = error
    return failure
