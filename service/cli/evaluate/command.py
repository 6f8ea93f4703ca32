"""`secondpass eval`: how often strategies are right, and at what cost, by a service that answers."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from secondpass.service.cli.common.client import connect, get, key_in
from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.embedded import embedded
from secondpass.service.cli.common.failure import FAILED, REFUSED, Failure
from secondpass.service.cli.common.options import complete_embedded, is_embedded
from secondpass.service.cli.common.provenance import (
    model_name,
    records_file,
    sampling_words,
)
from secondpass.service.cli.evaluate.asking import Asker
from secondpass.service.cli.evaluate.command_line import eval_command
from secondpass.service.cli.evaluate.options import EPILOG, EvalOptions, add_options
from secondpass.service.cli.evaluate.plan import plan
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.lab.evaluation.answer_log import (
    AnswerLog,
    AnswerLogInUse,
    Setting,
    open_answer_log,
)
from secondpass.service.lab.evaluation.cost import cost
from secondpass.service.lab.evaluation.intervals import mean, wilson
from secondpass.service.lab.evaluation.records import About, RunRecord, write_records
from secondpass.service.lab.evaluation.scorers import CannotScore, Scorer, check_scorable
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.questions import Question, read_all
from secondpass.service.lab.reports.markdown import percent, table
from secondpass.service.sandbox.runner import SandboxUnavailable, run_python
from secondpass.strategies.api.values import Sampling

if TYPE_CHECKING:
    from secondpass.service.lab.evaluation.inspect_tasks import Evaluation

EXTRA = "pip install 'secondpass[eval]'"

HEADINGS = (
    "strategy", "data", "questions", "missing", "right % [95%]", "decode tokens", "uncached prompt tokens",
    "wall p50 s", "p95 s",
)  # fmt: skip
"""Of the table; tokens are means of an answer."""


@dataclass(frozen=True, slots=True)
class _Row:
    """What came of one evaluation."""

    evaluation: Evaluation
    attempts: list[RunRecord]

    @property
    def missing(self) -> int:
        """Questions that failed, and are asked again next time."""
        return len(self.evaluation.items) - len(self.attempts)


def evaluate(options: EvalOptions) -> None:
    """Ask, score, and print the table."""
    if importlib.util.find_spec("inspect_ai") is None:
        raise Failure(f"evaluations need an extra: {EXTRA}")
    if options.records is not None:
        records_file("--records", options.records)
    try:
        questions = read_all([Path(p) for p in options.data], options.task, limit=options.limit)
        check_scorable(questions)
        with open_answer_log(Path(options.log_dir)) as book:
            anyio.run(_evaluate, options, questions, book)
    except (BadLine, CannotScore) as error:
        raise Failure(str(error), REFUSED) from error
    except (AnswerLogInUse, SandboxUnavailable) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{error.filename or options.log_dir}: {error.strerror}", REFUSED) from error


async def _evaluate(options: EvalOptions, questions: Sequence[Question], book: AnswerLog) -> None:
    if any(question.task.kind == "code" for question in questions):
        await run_python("", "")  # no answer is paid for that could not be scored
    async with AsyncExitStack() as stack:
        url = options.url
        if options.embedded:
            url = await stack.enter_async_context(embedded(options.serve_flags, options.wait))
        client = await stack.enter_async_context(connect(url, key_in(options.api_key_env)))
        listed = await get(client, "/strategies"), await get(client, "/v1/models")
        settings = plan(options, *listed)
        from secondpass.service.lab.evaluation.inspect_tasks import run  # noqa: PLC0415 - an extra, and slow

        evaluations = _evaluations(settings, questions, options.epochs)
        wanted = [
            (evaluation.setting, question, epoch)
            for evaluation in evaluations
            for question, epoch in evaluation.items
        ]
        done = sum(book.find(*each) is not None for each in wanted)
        asker = Asker(client, url, book, total=len(wanted), done=done)
        equivalence = await stack.enter_async_context(Equivalence(workers=2))
        scorer = Scorer(equivalence)
        for evaluation in evaluations:
            await run(
                evaluation,
                asker.ask,
                scorer.run_record,
                log_dir=Path(options.log_dir),
                concurrency=options.concurrency,
            )
            if asker.refusal is not None:
                raise asker.refusal
        rows = [await _row(evaluation, book, scorer) for evaluation in evaluations]
    _report(options, rows, asker)


def _evaluations(
    settings: Sequence[Setting], questions: Sequence[Question], epochs: int
) -> list[Evaluation]:
    from secondpass.service.lab.evaluation.inspect_tasks import Evaluation  # noqa: PLC0415 - an extra

    paths = dict.fromkeys(question.path for question in questions)
    return [
        Evaluation(setting, tuple(q for q in questions if q.path == path), epochs)
        for path in paths
        for setting in settings
    ]


async def _row(evaluation: Evaluation, book: AnswerLog, scorer: Scorer) -> _Row:
    attempts = []
    for question, epoch in evaluation.items:
        asked = book.find(evaluation.setting, question, epoch)
        if asked is not None:
            attempts.append(await scorer.run_record(evaluation.setting, question, epoch, asked))
    return _Row(evaluation, attempts)


def _report(options: EvalOptions, rows: Sequence[_Row], asker: Asker) -> None:
    print(table(HEADINGS, [_cells(row) for row in rows], names=2))  # noqa: T201
    if options.records is not None:
        _write(options, Path(options.records), rows)
    missing = sum(row.missing for row in rows)
    if missing:
        why = f", the last by: {asker.failures[-1]}" if asker.failures else ""
        raise Failure(f"{missing} answers are missing{why}; the same command asks again", FAILED)


def _cells(row: _Row) -> tuple[str, ...]:
    setting, attempts = row.evaluation.setting, row.attempts
    names = f"{setting.strategy} {setting.label}".strip(), row.evaluation.questions[0].path.stem
    counts = str(len(row.evaluation.questions)), str(row.missing or "")
    if not attempts:
        return (*names, *counts, "", "", "", "", "")
    by_question: dict[str, list[float]] = {}
    for attempt in attempts:
        by_question.setdefault(attempt.question, []).append(attempt.correct)
    right = wilson(sum(map(mean, by_question.values())), len(by_question))
    spent = cost(attempts)
    return (
        *names,
        *counts,
        percent(right),
        f"{spent.decode:.0f}",
        f"{spent.uncached:.0f}",
        f"{spent.p50:.2f}",
        f"{spent.p95:.2f}",
    )


def _write(options: EvalOptions, path: Path, rows: Sequence[_Row]) -> None:
    about = About(
        data=" ".join(dict.fromkeys(row.evaluation.questions[0].path.name for row in rows)),
        model=model_name(rows[0].evaluation.setting.model),
        date=datetime.now(UTC).date().isoformat(),
        command=shlex.join(eval_command(options)),
        formatted=True,  # every question names its task
        sampling=sampling_words(Sampling.model_validate(rows[0].evaluation.setting.sampling)),
    )
    write_records(path, about, [attempt for row in rows for attempt in row.attempts])


COMMAND = Command(
    name="eval",
    summary="find out how often strategies are right, and at what cost",
    epilog=EPILOG,
    options=EvalOptions,
    add=add_options,
    complete=complete_embedded,
    has_service=is_embedded,
    run=evaluate,
    interrupted="interrupted; what was answered is in the log folder, and the same command goes on from there",
)
