"""Cost of judging drafts by label probabilities, relative to the cost of drawing them.

    python -m benchmarks.judge_cost --engine-url http://127.0.0.1:9000/v1 --model NAME --data questions.jsonl --task math

A pair is a batch of questions. All its drafts are drawn concurrently, then judged concurrently with `p_true`, which
reads the label probabilities in both orders. Only the ratio is meaningful, because both phases share the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import anyio

from benchmarks.pairs import Pairs, table
from secondpass.service.calls.admission import Admission
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.events import CallFinished, Trace
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.lab.pools.questions import Question, read_all
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec, SharedResources
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.errors import SecondpassError
from secondpass.strategies.api.values import SOLVE, Completion, Draw, Role, Sampling
from secondpass.strategies.judging.p_true import p_true

HEADER = ("drafts a question", "drafts, s", "reads, s", "reads to drafts", "cached", "not judged")
BATCH = 4
"""Questions in a pair."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Wall time in seconds, prompt tokens, cached prompt tokens and failed reads of a phase."""

    seconds: float
    prompt: int
    cached: int
    failed: int = 0


async def pair(upstream: Upstream, questions: Sequence[Question], n: int) -> tuple[Phase, Phase]:
    """Draw `n` drafts per question, judge all of them and return both phases."""
    runs = [run_of(upstream, question) for question in questions]
    drafts: list[tuple[LiveRun, Completion]] = []
    failed = 0

    async def write(run: LiveRun) -> None:
        async with run.sample(SOLVE, n, draw=Draw(temperature=0.7)) as found:
            drafts.extend([(run, draft) async for draft in found])

    async def judge(run: LiveRun, draft: Completion) -> None:
        nonlocal failed
        try:
            await p_true(run, draft)
        except SecondpassError:
            failed += 1

    written = await _seconds(partial(write, run) for run in runs)
    judged = await _seconds(partial(judge, run, draft) for run, draft in drafts)
    return Phase(written, *_prompt(runs, "actor")), Phase(judged, *_prompt(runs, "judge"), failed)


async def _seconds(work: Iterable[Callable[[], Coroutine[None, None, None]]]) -> float:
    """Run all of `work` concurrently and return the wall time in seconds."""
    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for each in work:
            group.start_soon(each)
    return time.perf_counter() - began


def _prompt(runs: Sequence[LiveRun], role: Role) -> tuple[int, int]:
    usages = [
        event.usage
        for run in runs
        for event in run.trace.events
        if isinstance(event, CallFinished) and event.role == role
    ]
    return sum(usage.prompt for usage in usages), sum(usage.cached for usage in usages)


def run_of(upstream: Upstream, question: Question) -> LiveRun:
    """Create a run in which one engine is actor and judge."""
    single = STRATEGIES["single"]
    spec = RunSpec(
        id=uuid4().hex,
        strategy=single,
        params=single.defaults,
        messages=question.messages,
        task=question.task.as_task(),
        task_is_explicit=True,
        upstreams={"actor": upstream, "judge": upstream},
        sampling=Sampling(max_tokens=1024),
    )
    return LiveRun(spec, SharedResources(Equivalence()), Trace())


async def measure(options: argparse.Namespace) -> Pairs[Phase]:
    """Measure one pair per batch of questions, after one warm-up batch."""
    questions = read_all([Path(options.data)], options.task, limit=BATCH * (options.pairs + 1))
    batches = [questions[i : i + BATCH] for i in range(0, len(questions), BATCH)]
    engine = HttpEngine("vllm", options.engine_url, options.model)
    upstream = Upstream(engine, Admission(BATCH * options.n * 2))
    try:
        await engine.start()
        if not engine.ready:
            raise SystemExit(f"{options.engine_url} is not ready: {engine.why_not_ready}")
        _, *pairs = [await pair(upstream, batch, options.n) for batch in batches]
    finally:
        await engine.aclose()
    return Pairs(f"n = {options.n}", [each[0] for each in pairs], [each[1] for each in pairs])


def row(pairs: Pairs[Phase]) -> tuple[str, ...]:
    """Return the table row: medians and extremes over the pairs, and sums of tokens."""
    drafts, reads = pairs.medians(lambda phase: phase.seconds)
    prompt = sum(phase.prompt for phase in pairs.through)
    cached = sum(phase.cached for phase in pairs.through)
    ratio = pairs.compared(lambda drafted, judged: judged.seconds / drafted.seconds)
    return (
        pairs.name,
        f"{drafts:.2f}",
        f"{reads:.2f}",
        ratio.shown(".3f"),
        f"{cached / max(1, prompt):.0%}",
        f"{sum(phase.failed for phase in pairs.through)}",
    )


def main() -> None:
    """Print the table and its method."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.judge_cost",
        description="Measure the cost of label reads relative to their drafts.",
    )
    add = parser.add_argument
    add("--engine-url", required=True, help="base URL of an OpenAI-compatible server, up to /v1")
    add("--model", required=True, help="name of the served model")
    add("--data", required=True, metavar="FILE", help="questions, in the format of secondpass pool")
    add("--task", choices=("math", "choice"), help="kind of rows without a kind")
    add("--n", type=int, default=4, help="drafts per question (default: %(default)s)")
    add("--pairs", type=int, default=8, help="batches of 4 questions (default: %(default)s)")
    options = parser.parse_args()
    began = time.monotonic()
    pairs = anyio.run(measure, options)
    print(
        f"{table(HEADER, [row(pairs)])}\n\nMedians of {len(pairs.direct)} batches of {BATCH} questions, extremes in "
        f"brackets; {time.monotonic() - began:.0f} s in all."
    )


if __name__ == "__main__":
    main()
