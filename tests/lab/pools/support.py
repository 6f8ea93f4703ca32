"""Pools and questions for tests."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from secondpass.service.calls.upstream import Upstream
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.lab.pools.format import Header
from secondpass.service.lab.pools.pool import Pool, PoolFile, open_pool, read_pool
from secondpass.service.lab.pools.questions import read_questions
from secondpass.service.lab.pools.record import (
    PlannedSample,
    add_questions,
    missing_samples,
    new_pass,
    record,
)
from secondpass.strategies.api.engine import Call, Engine
from secondpass.strategies.api.values import Sampling
from secondpass.testing.support import upstream

HEADER = Header(
    model="scripted", sampling=Sampling(temperature=0.7, max_tokens=64), logprobs=20, seed=5
)
ROWS: tuple[dict[str, Any], ...] = (
    {"id": "a", "question": "What is 6 times 7?", "answer": "42"},
    {"id": "b", "question": "What is 40 and 2?", "answer": 42},
    {"id": "c", "question": "What is half of 84?", "answer": "42"},
)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def numbered(call: Call, index: int) -> Reply:
    """Return a reply whose length and answer depend on the seed."""
    seed = call.sampling.seed or 0
    return Reply(
        f"Draft {seed} {'so ' * (seed % 7)}is \\boxed{{{40 + seed % 3}}}.",
        labels=dict.fromkeys(call.labels, 0.4),
    )


def recorded(
    path: Path,
    data: Path,
    *,
    n: int = 6,
    header: Header = HEADER,
    script: Callable[[Call, int], Reply] = numbered,
) -> Pool:
    """Record `n` samples of every row of `data` from a scripted engine and return the pool."""
    engine = ScriptedEngine(script, per_token=0.001)
    questions = read_questions(data, "math")
    with open_pool(path, header) as pool_file:
        add_questions(pool_file, questions)
        pool_file.add(new_pass(engine, [data], questions, n, {}))
        planned = missing_samples(pool_file.pool, questions, n)
        draw_all(engine, pool_file, planned)
    return read_pool(path)


def draw_all(
    engine: Engine | Upstream, pool_file: PoolFile, planned: Sequence[PlannedSample]
) -> None:
    async def draw() -> None:
        await record(upstream(engine), pool_file, planned, concurrency=8, on_sample=lambda _: None)

    anyio.run(draw)
