"""Draw the samples that a pool is missing, concurrently, and append each as soon as it is complete."""

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
from secondpass.service.lab.pools.format import (
    Header,
    PoolQuestion,
    QuestionFile,
    RecordingPass,
    Sample,
    key_of,
)
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.pool import Pool, PoolFile, has_confidences, is_enough
from secondpass.service.lab.pools.questions import Question
from secondpass.service.runs.answer_format import with_answer_format
from secondpass.strategies.api.engine import Call, Engine
from secondpass.strategies.api.errors import EngineError
from secondpass.strategies.api.values import SOLVE, Sampling

ROUND = 4
"""Samples drawn per question before any question gets more, so that a partial pool is balanced."""


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """One sample that remains to be drawn."""

    question: Question
    call: Call


class DrawFailed(EngineError):
    """A sample could not be drawn; the message names its question. Earlier samples are in the pool."""


def sample_call(question: Question, header: Header, index: int = 0) -> Call:
    """Return the call that draws a sample, equal to that of a run with this sampling and seed."""
    task = question.task.as_task()
    messages = (
        with_answer_format(question.messages, task) if header.formatted else question.messages
    )
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
) -> RecordingPass:
    """Return the line that describes this execution. Raises BadLine for an unreadable file."""
    return RecordingPass(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        secondpass=__version__,
        engine=engine.name,
        capabilities=tuple(sorted(engine.capabilities)),
        context_window=engine.context_window,
        n=n,
        data=tuple(_data_file(path, questions) for path in data),
        notes=notes,
    )


def _data_file(path: Path, questions: Sequence[Question]) -> QuestionFile:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadLine(path, None, error.strerror or str(error)) from error
    count = sum(question.path == path for question in questions)
    return QuestionFile(name=path.name, sha256=digest, questions=count)


def add_questions(pool_file: PoolFile, questions: Sequence[Question]) -> None:
    """Add the questions that the pool does not contain. Raises BadLine for one that differs."""
    pool = pool_file.pool
    for question in questions:
        call = sample_call(question, pool.header)
        line = PoolQuestion(
            id=question.id,
            key=key_of(call),
            question=question.question,
            answer=question.answer,
            task=question.task,
            messages=call.messages,
        )
        if question.id not in pool.questions:
            pool_file.add(line)
        elif (recorded := pool.questions[question.id]) != line:
            field = next(name for name, value in recorded if value != getattr(line, name))
            field = "messages" if field == "key" else field
            problem = f"question {question.id!r}: {field} differs from {question.location}"
            raise BadLine(pool.path, pool.lines[question.id], problem)


def missing_samples(pool: Pool, questions: Sequence[Question], n: int) -> list[PlannedSample]:
    """Return the samples to draw for `n` samples per question, in drawing order.

    Questions with the same text share their samples, as an engine would return the same ones. A sample that a strategy's
    smaller limit truncated is drawn again.
    """
    planned = []
    cap = None if (drawn := pool.header.sampling) is None else drawn.max_tokens
    existing = {place: pool.find(*place, cap) for place in pool.samples}
    taken = {place for place, found in existing.items() if found and is_enough(found, cap)}
    for start in range(0, n, ROUND):
        for question in questions:
            call = sample_call(question, pool.header)
            key = key_of(call)
            for index in range(start, min(n, start + ROUND)):
                if (key, index) not in taken:
                    taken.add((key, index))
                    seed = {"seed": pool.header.seed + index}
                    sampling = call.sampling.model_copy(update=seed)
                    planned.append(
                        PlannedSample(question, replace(call, index=index, sampling=sampling))
                    )
    return planned


async def record(
    upstream: Upstream,
    pool_file: PoolFile,
    planned: Sequence[PlannedSample],
    *,
    concurrency: int,
    on_sample: Callable[[Sample], None],
) -> None:
    """Draw all planned samples, at most `concurrency` at once.

    Raises DrawFailed for the first failure, after the draws in progress have ended.
    """
    queue = iter(planned)
    failures: list[DrawFailed] = []

    async def work() -> None:
        for sample_plan in queue:
            try:
                samples = await draw(upstream, sample_plan.call, sample_plan.question.id)
                _check_confidences(upstream.engine, sample_plan.call, samples)
            except EngineError as error:
                failures.append(_draw_failed(sample_plan, error))
                return
            for sample in samples:
                pool_file.add(sample)
                on_sample(sample)
            if failures:
                return

    async with task_group() as group:
        for _ in range(min(concurrency, len(planned))):
            group.start_soon(work)
    if failures:
        raise failures[0]


def _check_confidences(engine: Engine, call: Call, samples: Sequence[Sample]) -> None:
    """Raise EngineError if requested confidences are missing, since no replay could restore them."""
    if call.logprobs and not all(map(has_confidences, samples)):
        raise EngineError(
            f"the engine returned no log probabilities of {call.logprobs} alternatives (--logprobs)",
            engine=engine.name,
            role=call.role,
        )


def _draw_failed(sample_plan: PlannedSample, error: EngineError) -> DrawFailed:
    where = f"question {sample_plan.question.id!r} ({sample_plan.question.location})"
    failure = DrawFailed(f"{where}: {error}", engine=error.engine, role=error.role)
    failure.__cause__ = error
    return failure
