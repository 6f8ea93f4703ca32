"""Recorded answers as a pool: files of other people's samples, of which only the answers are to be trusted.

What a sample answers was decided by whoever recorded it. So it is not extracted from its text again: the text that is
replayed ends in the number of the answer's class, the same for equal `pred` of a question, as the answer of a maths
task. A vote over these numbers is the vote over the recorded answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondpass.service.lab.pools.format import Header, Pass, PoolQuestion, Sample, key_of
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
    """A pool, and by question id what each class number is: `preds` as recorded, `correct` says whether it is right."""

    pool: Pool
    preds: Mapping[str, tuple[Any, ...]]
    correct: Mapping[str, tuple[bool, ...]]

    def is_correct(self, question: str, answer: str | None) -> bool:
        """Is the class that a replayed answer names a right one? No answer is not."""
        return answer is not None and self.correct[question][int(answer)]


def has_recorded_answers(path: Path | str) -> bool:
    """Does the file look like recorded answers, and not like a pool of ours? Raises BadLine."""
    _, first = next(read_rows(Path(path)), (1, Row()))
    return "samples" in first


def read_recorded_answers(path: Path | str) -> RecordedAnswers:
    """The samples of a file whose rows have `id`, `question` and `samples`, each with `pred` and `correct`.

    A sample whose `pred` is null has no answer, and so no vote. Its `text`, `tokens` and `finish` are kept where they
    are there. How the samples were drawn is not looked at: any sampling asks for them. Raises BadLine.
    """
    path = Path(path)
    pool: Pool | None = None
    preds: dict[str, tuple[Any, ...]] = {}
    correct: dict[str, tuple[bool, ...]] = {}
    for number, row in read_rows(path):
        if pool is None:
            header = Header(model=str(row.get("model", path.stem)), sampling=None, formatted=False)
            pool = Pool(path, header)
        asked = _asked(path, number, row)
        pool.add(asked, number)
        preds[asked.id], correct[asked.id] = _add_samples(pool, asked, row, number)
    if pool is None:
        raise BadLine(path, None, "there is no question in it")
    counts = any(sample.tokens for sample in pool.samples.values())
    pool.passes.append(
        Pass(
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


def _asked(path: Path, number: int, row: Row) -> PoolQuestion:
    for field in ("id", "question"):
        if not isinstance(row.get(field), str):
            raise BadLine(path, number, f"{field}: a text is wanted, not {row.get(field)!r}")
    messages = (Message(role="user", content=row["question"]),)
    # Questions may be the same text under two ids; samples belong to one of them.
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
    pool: Pool, asked: PoolQuestion, row: Row, number: int
) -> tuple[tuple[Any, ...], tuple[bool, ...]]:
    """File the samples of a row; returns what was answered, and whether it is right, by class."""
    samples = row.get("samples")
    if not isinstance(samples, list) or not samples:
        raise BadLine(pool.path, number, f"samples: a list is wanted, not {samples!r:.60}")
    classes: dict[str, int] = {}
    preds: list[Any] = []
    correct: list[bool] = []
    for index, given in enumerate(samples):
        field = f"samples[{index}]"
        if not isinstance(given, dict) or "pred" not in given:
            raise BadLine(
                pool.path, number, f"{field}.pred: missing; null where there is no answer"
            )
        if not isinstance(given.get("correct"), bool):
            raise BadLine(pool.path, number, f"{field}.correct: true or false is wanted")
        pool.add(_sample(asked, given, index, classes), number)
        if given["pred"] is None:
            if given["correct"]:
                raise BadLine(pool.path, number, f"{field}.correct: no answer cannot be right")
            continue
        place = classes[_form(given)]
        if place == len(preds):
            preds.append(given["pred"])
            correct.append(given["correct"])
        elif correct[place] != given["correct"]:
            raise BadLine(
                pool.path, number, f"{field}.correct: the same pred was the opposite before"
            )
    return tuple(preds), tuple(correct)


def _sample(asked: PoolQuestion, given: Row, index: int, classes: dict[str, int]) -> Sample:
    tokens = given.get("tokens")
    number = None if given["pred"] is None else classes.setdefault(_form(given), len(classes))
    return Sample(
        key=asked.key,
        index=index,
        question=asked.id,
        text=NOTHING
        if number is None
        else f"{given.get('text') or ''}\n\nThe answer is \\boxed{{{number}}}.".lstrip(),
        # A text that was cut answers nothing by itself; this one answers what was read from it.
        finish_reason="stop"
        if number is not None
        else _FINISH.get(given.get("finish", ""), "stop"),
        tokens=tokens if isinstance(tokens, int) else 0,
        prompt=0,
        cached=0,
        first_seconds=0.0,
        seconds=0.0,
    )


def _form(given: Row) -> str:
    return json.dumps(given["pred"], sort_keys=True)
