"""`secondpass pool replay`: run strategies over a pool, many shuffles each, and keep the attempts for `secondpass results`."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from secondpass.service.classes import AnswerClasses
from secondpass.service.cli.failure import FAILED, REFUSED, Failure
from secondpass.service.cli.options import Options
from secondpass.service.cli.values import param
from secondpass.service.evaluation.records import (
    About,
    Attempt,
    from_outcome,
    write_records,
)
from secondpass.service.outcome import Outcome
from secondpass.service.pools.clock import run_virtually
from secondpass.service.pools.format import Asked
from secondpass.service.pools.jsonl import BadLine
from secondpass.service.pools.pool import Pool, read_pool
from secondpass.service.replaying import TimelessEquivalence, replay
from secondpass.strategies import STRATEGIES

SCORED = ("math", "choice")
"""Kinds whose answers are compared: whether code is right shows only when it runs, and of open answers nobody knows."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A strategy and its parameters; `label` is the parameters as they were typed."""

    strategy: str
    params: Mapping[str, Any]
    label: str


def replay_pool(options: Options) -> None:
    """Replay every setting on every question and write the records. Raises Failure."""
    settings = [setting(text) for text in options.settings]
    try:
        pool = read_pool(options.pool)
    except BadLine as error:
        raise Failure(str(error), REFUSED) from error
    questions = [q for q in pool.questions.values() if q.id.startswith(options.only)]
    if not questions:
        raise Failure(
            f"--only: no question of {options.pool} begins with {options.only!r}", REFUSED
        )
    for question in questions:
        if question.task.kind not in SCORED:
            scored = " and ".join(SCORED)
            raise Failure(
                f"{options.pool}:{pool.lines[question.id]}: kind: {question.task.kind!r} "
                f"is not scored in a replay; {scored} are",
                REFUSED,
            )
    attempts = run_virtually(_replay, pool, questions, settings, options.shuffles)
    data = ", ".join(dict.fromkeys(d.name for p in pool.passes for d in p.data))
    about = About(
        data=options.only.strip("-") or data,
        model=pool.header.model,
        date=datetime.now(UTC).date().isoformat(),
        command=f"secondpass pool replay --shuffles {options.shuffles}",
        engine="replay",
    )
    write_records(Path(options.out), about, attempts)
    lost = [attempt for attempt in attempts if attempt.error is not None]
    if lost:
        why = f"{lost[0].label}: {lost[0].error}"
        raise Failure(
            f"{len(lost)} of {len(attempts)} runs have no answer; the first: {why}", FAILED
        )


def setting(text: str) -> Setting:
    """A setting as it is typed: NAME KEY=VALUE ... Raises Failure for what there is not."""
    name, *pairs = text.split()
    if name not in STRATEGIES:
        raise Failure(f"--setting: no strategy {name!r}; one of {', '.join(STRATEGIES)}", REFUSED)
    try:
        params = dict(map(param, pairs))
        STRATEGIES[name].params(**params)
    except ArgumentTypeError as error:
        raise Failure(f"--setting {text!r}: {error}", REFUSED) from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "params"
        raise Failure(f"--setting {text!r}: {where}: {problem['msg']}", REFUSED) from error
    return Setting(name, params, " ".join(pairs))


async def _replay(
    pool: Pool, questions: Sequence[Asked], settings: Sequence[Setting], shuffles: int
) -> list[Attempt]:
    attempts: list[Attempt] = []
    async with TimelessEquivalence(workers=2) as equivalence:
        for each in settings:
            attempts += [
                await _attempt(pool, asked, each, shuffle, equivalence)
                for asked in questions
                for shuffle in range(shuffles)
            ]
            _say(f"{each.strategy} {each.label}: {len(questions)} questions, {shuffles} shuffles")
    return attempts


async def _attempt(
    pool: Pool, asked: Asked, each: Setting, shuffle: int, equivalence: TimelessEquivalence
) -> Attempt:
    """One run; without an answer it counts as wrong, and says what ended it."""
    run = await replay(pool, asked, each.strategy, each.params, equivalence, shuffle=shuffle)
    if run.outcome is None:
        return Attempt(
            question=asked.id,
            strategy=each.strategy,
            setting=each.label,
            shuffle=shuffle,
            correct=False,
            seconds=run.seconds,
            error=str(run.failure),
        )
    classes = AnswerClasses(asked.task.as_task(), equivalence)
    right = {a: await classes.same(asked.answer, a) for a in _answers(run.outcome)}
    return from_outcome(
        run.outcome,
        asked.answer,
        lambda answer, _: right[answer],
        question=asked.id,
        strategy=each.strategy,
        setting=each.label,
        shuffle=shuffle,
    )


def _answers(outcome: Outcome) -> Iterator[str]:
    found = (c.answer for c in (outcome.candidate, *outcome.candidates))
    yield from dict.fromkeys(answer for answer in found if answer is not None)


def _say(line: str) -> None:
    print(f"secondpass pool: {line}", file=sys.stderr, flush=True)  # noqa: T201
