"""Answers recorded by others, as a pool.

The answer of a sample is its recorded `pred` and is not extracted from its text again. Equal `pred` of a question form an
answer class. The replayed text ends with the number of that class, as the answer of a maths task. A vote over these
numbers is the vote over the recorded answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondpass.service.lab.pools.format import Header, PoolQuestion, RecordingPass, Sample, key_of
from secondpass.service.lab.pools.jsonl import BadLine, Row, read_rows
from secondpass.service.lab.pools.pool import Pool
from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import SOLVE, FinishReason, Message

NOTHING = "No answer could be read from this sample."
_TASK = TaskRequest(kind="math")
_FINISH: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, slots=True)
class RecordedAnswers:
    """A pool; `preds` and `correct` map a question id to the answer and correctness of each class."""

    pool: Pool
    preds: Mapping[str, tuple[Any, ...]]
    correct: Mapping[str, tuple[bool, ...]]

    def is_correct(self, question: str, answer: str | None) -> bool:
        """Return whether the class number in `answer` is correct; False without an answer."""
        return answer is not None and self.correct[question][int(answer)]


def has_recorded_answers(path: Path | str) -> bool:
    """Return whether the file contains recorded answers instead of a pool. Raises BadLine."""
    _, first = next(read_rows(Path(path)), (1, Row()))
    return "samples" in first


def read_recorded_answers(path: Path | str) -> RecordedAnswers:
    """Read a file whose rows have `id`, `question` and `samples`, each with `pred` and `correct`.

    A sample with `pred: null` has no answer and no vote. Optional fields of a sample are `text`, `tokens` and `finish`.
    Sampling parameters are unknown, so calls match with any sampling. Raises BadLine.
    """
    path = Path(path)
    pool: Pool | None = None
    preds: dict[str, tuple[Any, ...]] = {}
    correct: dict[str, tuple[bool, ...]] = {}
    for number, row in read_rows(path):
        if pool is None:
            header = Header(model=str(row.get("model", path.stem)), sampling=None, formatted=False)
            pool = Pool(path, header)
        question = _pool_question(path, number, row)
        pool.add(question, number)
        preds[question.id], correct[question.id] = _add_samples(pool, question, row, number)
    if pool is None:
        raise BadLine(path, None, "the file contains no question")
    counts = any(sample.tokens for sample in pool.samples.values())
    pool.passes.append(
        RecordingPass(
            at="",
            secondpass="",
            engine=path.stem,
            capabilities=("token_counts",) if counts else (),
            context_window=None,
            n=1 + max(index for _, index in pool.samples),
            data=(),
        )
    )
    return RecordedAnswers(pool, preds, correct)


def _pool_question(path: Path, number: int, row: Row) -> PoolQuestion:
    for field in ("id", "question"):
        if not isinstance(row.get(field), str):
            raise BadLine(path, number, f"{field}: must be a string, not {row.get(field)!r}")
    messages = (Message(role="user", content=row["question"]),)
    # Two ids may share one text; the name separates their samples.
    turn = messages[0].model_copy(update={"name": row["id"]})
    call = Call(role="actor", purpose=SOLVE, messages=(turn,))
    return PoolQuestion(
        id=row["id"],
        key=key_of(call, by_sampling=False),
        question=row["question"],
        answer=str(row.get("answer")),
        task=_TASK,
        messages=(turn,),
    )


def _add_samples(
    pool: Pool, question: PoolQuestion, row: Row, number: int
) -> tuple[tuple[Any, ...], tuple[bool, ...]]:
    """Add the samples of a row; return the answer and the correctness of each class."""
    samples = row.get("samples")
    if not isinstance(samples, list) or not samples:
        raise BadLine(pool.path, number, f"samples: must be a non-empty list, not {samples!r:.60}")
    classes: dict[str, int] = {}
    preds: list[Any] = []
    correct: list[bool] = []
    for index, given in enumerate(samples):
        field = f"samples[{index}]"
        if not isinstance(given, dict) or "pred" not in given:
            raise BadLine(pool.path, number, f"{field}.pred: missing; use null for no answer")
        if not isinstance(given.get("correct"), bool):
            raise BadLine(pool.path, number, f"{field}.correct: must be true or false")
        pool.add(_sample(question, given, index, classes), number)
        if given["pred"] is None:
            if given["correct"]:
                raise BadLine(
                    pool.path, number, f"{field}.correct: must be false without an answer"
                )
            continue
        place = classes[_canonical(given)]
        if place == len(preds):
            preds.append(given["pred"])
            correct.append(given["correct"])
        elif correct[place] != given["correct"]:
            raise BadLine(pool.path, number, f"{field}.correct: must be equal for equal pred")
    return tuple(preds), tuple(correct)


def _sample(question: PoolQuestion, given: Row, index: int, classes: dict[str, int]) -> Sample:
    tokens = given.get("tokens")
    number = None if given["pred"] is None else classes.setdefault(_canonical(given), len(classes))
    return Sample(
        key=question.key,
        index=index,
        question=question.id,
        text=NOTHING
        if number is None
        else f"{given.get('text') or ''}\n\nThe answer is \\boxed{{{number}}}.".lstrip(),
        # A truncated text has no answer of its own, but its recorded answer counts.
        finish_reason="stop"
        if number is not None
        else _FINISH.get(given.get("finish", ""), "stop"),
        tokens=tokens if isinstance(tokens, int) else 0,
        prompt=0,
        cached=0,
        first_seconds=0.0,
        seconds=0.0,
    )


def _canonical(given: Row) -> str:
    return json.dumps(given["pred"], sort_keys=True)
