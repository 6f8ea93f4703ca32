"""Evaluations as tasks of inspect: what its viewer opens. Needs the extra `eval`, so it is imported when it is wanted.

inspect runs the samples, in parallel, and writes the logs. It makes no model call of its own, and does not resume: what was
asked already is in `asked`, from where a new log is filled at once.
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
"""(setting, question, epoch from 1) -> what it was answered; what it raises is the sample's error."""

Grade = Callable[[Setting, Question, int, LoggedAnswer], Awaitable[RunRecord]]
"""The record of an answer; see `scorers.Scorer.attempt`."""

_MARK = "secondpass"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One strategy over the questions of one file."""

    setting: Setting
    questions: tuple[Question, ...]
    epochs: int

    @property
    def wanted(self) -> list[tuple[Question, int]]:
        """Every question in every epoch, which count from 1."""
        return [(question, 1 + at) for question in self.questions for at in range(self.epochs)]

    @property
    def name(self) -> str:
        """What inspect calls it: the file and the strategy."""
        label = self.setting.label.replace(" ", ",")
        words = (self.questions[0].path.stem, self.setting.strategy, label)
        return "-".join(word for word in words if word)

    @property
    def id(self) -> str:
        """The same for what asks the same questions in the same way."""
        asked = [
            (q.id, question_digest(q), q.answer, q.task.tests, q.row.get("entry_point"))
            for q in self.questions
        ]
        return digest([self.setting.key, asked, self.epochs])


async def run(
    evaluation: Evaluation, ask: Ask, score: Grade, *, log_dir: Path, concurrency: int
) -> None:
    """Ask what was not asked yet, score it all, and leave one log of it, unless there is a complete one already.

    Raises KeyboardInterrupt after a Ctrl-C, which inspect takes for the end of its task alone.
    """
    earlier = logs_of(evaluation, log_dir)
    if any(_is_complete(log) for log in earlier):
        return
    os.environ.setdefault("INSPECT_DISPLAY", "none")  # stdout is the command's own
    display_type()  # reads it, once; evaluations would show themselves otherwise
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
    """Take away logs that were begun and never ended, or had failures that were asked again."""
    for log in logs:
        Path(log.location.removeprefix("file://")).unlink(missing_ok=True)


def task_of(evaluation: Evaluation, ask: Ask, score: Grade) -> inspect_ai.Task:
    """The task: its samples are the questions, its solver the service."""
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

    def asked_in(state: TaskState) -> tuple[Setting, Question, int]:
        return evaluation.setting, questions[str(state.sample_id)], state.epoch

    return inspect_ai.Task(
        dataset=MemoryDataset(samples, name=evaluation.questions[0].path.stem),
        solver=_solver(evaluation.setting, asked_in, ask),
        scorer=_scorer(asked_in, ask, score),
        epochs=evaluation.epochs,
        name=evaluation.name,
        metadata={_MARK: evaluation.id, "model": evaluation.setting.model},
    )


def logs_of(evaluation: Evaluation, log_dir: Path) -> list[EvalLog]:
    """The headers of the logs in the folder that are of this very evaluation."""
    found = []
    for each in list_eval_logs(str(log_dir)):
        try:
            log = read_eval_log(each, header_only=True)
        except (OSError, ValueError, BadZipFile):  # cut by a kill; inspect's viewer says so too
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


_AskedIn = Callable[[TaskState], tuple[Setting, Question, int]]


def _solver(setting: Setting, asked_in: _AskedIn, ask: Ask) -> Solver:
    @solver(name="secondpass")
    def secondpass(strategy: str, **terms: Any) -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            asked = await ask(*asked_in(state))
            if asked.document is None:
                state.output = ModelOutput(model=setting.model, error=asked.problem)
            else:
                state.output = _output(setting.model, asked.document)
                state.metadata["secondpass"] = asked.document
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


def _scorer(asked_in: _AskedIn, ask: Ask, score: Grade) -> InspectScorer:
    @scorer(metrics=[accuracy(), stderr()], name="secondpass")
    def secondpass() -> InspectScorer:
        async def judge(state: TaskState, target: Target) -> Score:
            setting, question, epoch = asked_in(state)
            attempt = await score(setting, question, epoch, await ask(setting, question, epoch))
            why = attempt.error or f"ended: {attempt.stop_reason}"
            value = "C" if attempt.correct else "I"
            return Score(value=value, answer=attempt.answer or "", explanation=why)

        return judge

    return secondpass()


def _output(model: str, document: dict[str, Any]) -> ModelOutput:
    output = ModelOutput.from_content(model, document["text"])
    bills: Sequence[dict[str, Any]] = list(document["usage"].values())
    prompt, written = (sum(bill[kind] for bill in bills) for kind in ("prompt", "completion"))
    output.usage = ModelUsage(
        input_tokens=prompt,
        output_tokens=written,
        total_tokens=prompt + written,
        input_tokens_cache_read=sum(bill["cached"] for bill in bills),
    )
    output.time = document["timing"]["total"] / 1e3
    return output
