"""`secondpass eval`: measure the accuracy and cost of strategies with a running server."""

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

from secondpass.service.cli.common.client import connect, get, read_api_key
from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.embedded import embedded_server
from secondpass.service.cli.common.failure import FAILED, REFUSED, Failure
from secondpass.service.cli.common.options import complete_embedded, is_embedded
from secondpass.service.cli.common.output import print_text
from secondpass.service.cli.common.provenance import (
    describe_sampling,
    model_name,
    records_file,
)
from secondpass.service.cli.evaluate.answer_source import AnswerSource
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
from secondpass.service.lab.evaluation.records import RecordHeader, RunRecord, write_records
from secondpass.service.lab.evaluation.scorers import CannotScore, Scorer, check_scorable
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.questions import Question, read_all
from secondpass.service.lab.reports.markdown import percent, table
from secondpass.service.sandbox.runner import SandboxUnavailable, run_python
from secondpass.strategies.api.values import Sampling

if TYPE_CHECKING:
    from secondpass.service.lab.evaluation.inspect_tasks import Evaluation

INSTALL_EVAL_EXTRA = "pip install 'secondpass[eval]'"

HEADINGS = (
    "strategy", "data", "questions", "missing", "accuracy, % [95% CI]", "decode tokens", "uncached prompt tokens",
    "wall time p50, s", "wall time p95, s",
)  # fmt: skip
"""Column headings of the table. Tokens are means per answer."""


@dataclass(frozen=True, slots=True)
class _Row:
    """Result of one evaluation: a row of the table."""

    evaluation: Evaluation
    records: list[RunRecord]

    @property
    def missing(self) -> int:
        """Number of answers that failed. The next evaluation requests them again."""
        return len(self.evaluation.items) - len(self.records)


def evaluate(options: EvalOptions) -> None:
    """Request and score the answers, and print the table. Raises Failure."""
    if importlib.util.find_spec("inspect_ai") is None:
        raise Failure(f"evaluations need inspect-ai: {INSTALL_EVAL_EXTRA}")
    if options.records is not None:
        records_file("--records", options.records)
    try:
        questions = read_all([Path(p) for p in options.data], options.task, limit=options.limit)
        check_scorable(questions)
        with open_answer_log(Path(options.log_dir)) as log:
            anyio.run(_evaluate, options, questions, log)
    except (BadLine, CannotScore) as error:
        raise Failure(str(error), REFUSED) from error
    except (AnswerLogInUse, SandboxUnavailable) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{error.filename or options.log_dir}: {error.strerror}", REFUSED) from error


async def _evaluate(options: EvalOptions, questions: Sequence[Question], log: AnswerLog) -> None:
    if any(question.task.kind == "code" for question in questions):
        await run_python("", "")  # check the sandbox before paying for answers
    async with AsyncExitStack() as stack:
        url = options.url
        if options.embedded:
            url = await stack.enter_async_context(
                embedded_server(options.serve_flags, options.wait)
            )
        client = await stack.enter_async_context(connect(url, read_api_key(options.api_key_env)))
        strategies, models = await get(client, "/strategies"), await get(client, "/v1/models")
        settings = plan(options, strategies, models)
        from secondpass.service.lab.evaluation.inspect_tasks import run  # noqa: PLC0415 - an extra, and slow

        evaluations = _evaluations(settings, questions, options.epochs)
        items = [
            (evaluation.setting, question, epoch)
            for evaluation in evaluations
            for question, epoch in evaluation.items
        ]
        done = sum(log.find(*item) is not None for item in items)
        source = AnswerSource(client, url, log, total=len(items), done=done)
        equivalence = await stack.enter_async_context(Equivalence(workers=2))
        scorer = Scorer(equivalence)
        for evaluation in evaluations:
            await run(
                evaluation,
                source.answer,
                scorer.run_record,
                log_dir=Path(options.log_dir),
                concurrency=options.concurrency,
            )
            if source.rejection is not None:
                raise source.rejection
        rows = [await _row(evaluation, log, scorer) for evaluation in evaluations]
    _report(options, rows, source)


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


async def _row(evaluation: Evaluation, log: AnswerLog, scorer: Scorer) -> _Row:
    records = []
    for question, epoch in evaluation.items:
        answer = log.find(evaluation.setting, question, epoch)
        if answer is not None:
            records.append(await scorer.run_record(evaluation.setting, question, epoch, answer))
    return _Row(evaluation, records)


def _report(options: EvalOptions, rows: Sequence[_Row], source: AnswerSource) -> None:
    print_text(table(HEADINGS, [_cells(row) for row in rows], names=2))
    if options.records is not None:
        _write_records(options, Path(options.records), rows)
    missing = sum(row.missing for row in rows)
    if missing:
        reason = f"; last failure: {source.failures[-1]}" if source.failures else ""
        raise Failure(
            f"{missing} answers are missing{reason}; run the same command again to request them",
            FAILED,
        )


def _cells(row: _Row) -> tuple[str, ...]:
    setting, records = row.evaluation.setting, row.records
    names = f"{setting.strategy} {setting.label}".strip(), row.evaluation.questions[0].path.stem
    counts = str(len(row.evaluation.questions)), str(row.missing or "")
    if not records:
        return (*names, *counts, "", "", "", "", "")
    by_question: dict[str, list[float]] = {}
    for record in records:
        by_question.setdefault(record.question, []).append(record.correct)
    accuracy = wilson(sum(map(mean, by_question.values())), len(by_question))
    spent = cost(records)
    return (
        *names,
        *counts,
        percent(accuracy),
        f"{spent.decode:.0f}",
        f"{spent.uncached:.0f}",
        f"{spent.p50:.2f}",
        f"{spent.p95:.2f}",
    )


def _write_records(options: EvalOptions, path: Path, rows: Sequence[_Row]) -> None:
    about = RecordHeader(
        data=" ".join(dict.fromkeys(row.evaluation.questions[0].path.name for row in rows)),
        model=model_name(rows[0].evaluation.setting.model),
        date=datetime.now(UTC).date().isoformat(),
        command=shlex.join(eval_command(options)),
        formatted=True,  # every question names its task
        sampling=describe_sampling(Sampling.model_validate(rows[0].evaluation.setting.sampling)),
    )
    write_records(path, about, [record for row in rows for record in row.records])


COMMAND = Command(
    name="eval",
    summary="measure the accuracy and cost of strategies",
    epilog=EPILOG,
    options=EvalOptions,
    add=add_options,
    complete=complete_embedded,
    uses_local_service=is_embedded,
    run=evaluate,
    interrupted="interrupted; finished answers are in the log folder, and the same command resumes",
)
