"""Evaluations as tasks of inspect_ai, whose viewer opens the logs. Requires the extra `eval`.

inspect_ai runs the samples concurrently and writes the logs. It calls no model itself. A resumed evaluation writes a new
log, and the answers in the answer log are not requested again.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import inspect_ai
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage
from inspect_ai.scorer import Score, Target, accuracy, scorer, stderr
from inspect_ai.scorer import Scorer as InspectScorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import display_type

from secondpass.service.lab.evaluation.answer_log import (
    LoggedAnswer,
    Setting,
    digest,
    question_digest,
)
from secondpass.service.lab.evaluation.records import RunRecord
from secondpass.service.lab.pools.questions import Question

Ask = Callable[[Setting, Question, int], Awaitable[LoggedAnswer]]
"""(setting, question, epoch from 1) -> answer. An exception becomes the error of the sample."""

Grade = Callable[[Setting, Question, int, LoggedAnswer], Awaitable[RunRecord]]
"""(setting, question, epoch, answer) -> record; see `scorers.Scorer.run_record`."""

_MARK = "secondpass"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One strategy over the questions of one file."""

    setting: Setting
    questions: tuple[Question, ...]
    epochs: int

    @property
    def items(self) -> list[tuple[Question, int]]:
        """Every question in every epoch; epochs count from 1."""
        return [(question, 1 + at) for question in self.questions for at in range(self.epochs)]

    @property
    def name(self) -> str:
        """Task name in inspect_ai: file, strategy and parameters."""
        label = self.setting.label.replace(" ", ",")
        words = (self.questions[0].path.stem, self.setting.strategy, label)
        return "-".join(word for word in words if word)

    @property
    def id(self) -> str:
        """Digest of setting, questions and epochs: equal for equal evaluations."""
        questions = [
            (q.id, question_digest(q), q.answer, q.task.tests, q.row.get("entry_point"))
            for q in self.questions
        ]
        return digest([self.setting.key, questions, self.epochs])


async def run(
    evaluation: Evaluation, ask: Ask, score: Grade, *, log_dir: Path, concurrency: int
) -> None:
    """Ask the open questions, score all answers and write one log, unless a complete one exists.

    Raises KeyboardInterrupt after Ctrl-C, because inspect_ai only cancels its task.
    """
    earlier = logs_of(evaluation, log_dir)
    if any(_is_complete(log) for log in earlier):
        return
    os.environ.setdefault("INSPECT_DISPLAY", "none")  # keep stdout for the command
    display_type()  # cache the setting now, or later evaluations would print
    logs = await inspect_ai.eval_async(
        [task_of(evaluation, ask, score)],
        model=None,
        log_dir=str(log_dir),
        log_format="eval",
        log_level="critical",
        log_realtime=False,
        fail_on_error=False,
        score_display=False,
        max_samples=concurrency,
        max_tasks=1,
        acp_server=False,
        ctl_server=False,
    )
    if not logs or any(log.status == "cancelled" for log in logs):
        raise KeyboardInterrupt
    _remove(earlier)


def _remove(logs: Sequence[EvalLog]) -> None:
    """Delete logs of interrupted evaluations and of evaluations with failures."""
    for log in logs:
        Path(log.location.removeprefix("file://")).unlink(missing_ok=True)


def task_of(evaluation: Evaluation, ask: Ask, score: Grade) -> inspect_ai.Task:
    """Return the task: its samples are the questions, and its solver asks the service."""
    questions = {question.id: question for question in evaluation.questions}
    samples = [
        Sample(
            id=question.id,
            input=question.question,
            target=question.answer,
            choices=list(question.task.options) or None,
            metadata={"kind": question.task.kind, "place": question.location},
        )
        for question in evaluation.questions
    ]

    def item_of(state: TaskState) -> tuple[Setting, Question, int]:
        return evaluation.setting, questions[str(state.sample_id)], state.epoch

    return inspect_ai.Task(
        dataset=MemoryDataset(samples, name=evaluation.questions[0].path.stem),
        solver=_solver(evaluation.setting, item_of, ask),
        scorer=_scorer(item_of, ask, score),
        epochs=evaluation.epochs,
        name=evaluation.name,
        metadata={_MARK: evaluation.id, "model": evaluation.setting.model},
    )


def logs_of(evaluation: Evaluation, log_dir: Path) -> list[EvalLog]:
    """Return the headers of this evaluation's logs in the folder."""
    found = []
    for each in list_eval_logs(str(log_dir)):
        try:
            log = read_eval_log(each, header_only=True)
        except (OSError, ValueError, BadZipFile):  # partial log of a killed process
            continue
        if (log.eval.metadata or {}).get(_MARK) == evaluation.id:
            found.append(log)
    return found


def _is_complete(log: EvalLog) -> bool:
    results = log.results
    return (
        log.status == "success"
        and results is not None
        and results.completed_samples == results.total_samples
    )


_ItemOf = Callable[[TaskState], tuple[Setting, Question, int]]


def _solver(setting: Setting, item_of: _ItemOf, ask: Ask) -> Solver:
    @solver(name="secondpass")
    def secondpass(strategy: str, **terms: Any) -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            answer = await ask(*item_of(state))
            if answer.document is None:
                state.output = ModelOutput(model=setting.model, error=answer.problem)
            else:
                state.output = _output(setting.model, answer.document)
                state.metadata["secondpass"] = answer.document
            state.completed = True
            return state

        return solve

    return secondpass(
        setting.strategy,
        params=dict(setting.params),
        sampling=dict(setting.sampling),
        budget=dict(setting.budget),
        route=setting.route,
    )


def _scorer(item_of: _ItemOf, ask: Ask, score: Grade) -> InspectScorer:
    @scorer(metrics=[accuracy(), stderr()], name="secondpass")
    def secondpass() -> InspectScorer:
        async def judge(state: TaskState, target: Target) -> Score:
            setting, question, epoch = item_of(state)
            record = await score(setting, question, epoch, await ask(setting, question, epoch))
            why = record.error or f"stop reason: {record.stop_reason}"
            value = "C" if record.correct else "I"
            return Score(value=value, answer=record.answer or "", explanation=why)

        return judge

    return secondpass()


def _output(model: str, document: dict[str, Any]) -> ModelOutput:
    output = ModelOutput.from_content(model, document["text"])
    usages: Sequence[dict[str, Any]] = list(document["usage"].values())
    prompt, completion = (sum(usage[kind] for usage in usages) for kind in ("prompt", "completion"))
    output.usage = ModelUsage(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=prompt + completion,
        input_tokens_cache_read=sum(usage["cached"] for usage in usages),
    )
    output.time = document["timing"]["total"] / 1e3
    return output
