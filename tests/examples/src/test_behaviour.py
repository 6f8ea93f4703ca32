"""Behaviour of the example strategies. `test_examples.py` runs it in a process that registers them."""

import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import anyio
import pytest

from secondpass.service.common.errors import NoAnswerWithinBudget
from secondpass.service.common.events import CallFinished
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run_spec import SharedResources
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.values import Capability
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    answers,
    assert_accounting_is_complete,
    make_run,
)

pytestmark = [pytest.mark.anyio, ON_BOTH_BACKENDS]


@dataclass
class Shuffled(ScriptedEngine):
    """A scripted engine whose calls finish in an order that depends only on `order`."""

    order: int = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        await anyio.sleep(random.Random(f"{self.order}-{len(self.calls)}").random() / 50)
        async with aclosing(super().stream(call)) as deltas:
            async for delta in deltas:
                yield delta


def engine_with_judge_preferring(answer: str) -> ScriptedEngine:
    """Return an engine with four different answers and a judge that prefers `answer`.

    The judge has no preference between two other answers.
    """
    draft = answers("1", "2", "3", "4")

    def script(call: Call, index: int) -> Reply:
        if not call.labels:
            return draft(call, index)
        first, second = call.messages[-1].text.split("[CANDIDATE B", 1)
        wanted = f"boxed{{{answer}}}"
        a = 0.9 if wanted in first else 0.1 if wanted in second else 0.5
        return Reply("", labels={"A": a, "B": 1 - a})

    return ScriptedEngine(script)


@pytest.mark.parametrize("answer", ["1", "2", "3", "4"])
async def test_tournament_elects_the_preferred_draft(answer: str) -> None:
    engine = engine_with_judge_preferring(answer)
    async with Equivalence(workers=1) as equivalence:
        run = make_run(engine, "pairwise_tournament", shared=SharedResources(equivalence))
        outcome = await execute(run)
    assert outcome.candidate.answer == answer
    assert outcome.candidate.score == 1.0
    assert sum(usage.wasted for usage in outcome.usage.values()) == 0
    assert outcome.usage["judge"].calls == 12
    assert_accounting_is_complete(run, engine)


async def test_tournament_elects_the_first_draft_if_all_tie() -> None:
    run = make_run(engine_with_judge_preferring("none of them"), "pairwise_tournament")
    outcome = await execute(run)
    assert (outcome.candidate.index, outcome.candidate.score) == (0, 0.5)


@pytest.mark.parametrize("answer", ["3", "none of them"])
async def test_tournament_is_independent_of_completion_order(answer: str) -> None:
    judge = engine_with_judge_preferring(answer)
    async with Equivalence(workers=1) as equivalence:
        shared = SharedResources(equivalence)
        found = [
            await execute(
                make_run(Shuffled(judge.script, order=n), "pairwise_tournament", shared=shared)
            )
            for n in range(4)
        ]
    assert len({outcome.candidate for outcome in found}) == 1


@pytest.mark.parametrize("calls", range(1, 16))
async def test_tournament_returns_an_answer_if_the_budget_is_exhausted(calls: int) -> None:
    engine = engine_with_judge_preferring("3")
    run = make_run(engine, "pairwise_tournament", max_calls=calls)
    outcome = await execute(run)
    assert outcome.stop_reason == "budget_calls"
    assert outcome.candidate.answer is not None
    assert_accounting_is_complete(run, engine)


class Paths:
    """Solutions of two steps and an answer. Of each two continuations, the one with index `good` is right."""

    def __init__(self, good: int, *, labels: bool = True, pause: float = 0.0) -> None:
        lacking: frozenset[Capability] = frozenset() if labels else frozenset({"labels"})
        self.good = good
        self.engine = ScriptedEngine(self.reply, per_token=pause, lacking=lacking)

    def reply(self, call: Call, index: int) -> Reply:
        if call.labels or call.reward or call.role == "judge":
            text = next(m.text for m in reversed(call.messages) if m.role == "assistant")
            right = text.count("right") - text.count("wrong")
            share = 0.5 + 0.1 * right
            word = "yes" if share > 0.5 else "no"
            return Reply(word, labels={"yes": share, "no": 1 - share}, reward=float(right))
        prefix = self.engine.prefix_text(call)
        step = prefix.count("\n\n")
        word = "right" if index % 2 == self.good else "wrong"
        if step < 2:
            return Reply(f"{prefix}Step {step} is {word}.\n\nThen")
        is_right = word == "right" and "wrong" not in prefix
        return Reply(f"{prefix}So it is {word}: \\boxed{{{42 if is_right else 41}}}.")


@pytest.mark.parametrize("grade", ["labels", "reward"])
@pytest.mark.parametrize("good", [0, 1])
async def test_search_continues_the_beams_with_the_best_grades(good: int, grade: str) -> None:
    paths = Paths(good)
    run = make_run(paths.engine, "step_beam_search", {"grade": grade})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert outcome.candidate.text.count("right") == 3
    assert outcome.candidate.text.count("\n\n") == 2
    assert outcome.stop_reason == "finished"
    assert_accounting_is_complete(run, paths.engine)


async def test_continued_tokens_are_not_wasted() -> None:
    paths = Paths(0)
    run = make_run(paths.engine, "step_beam_search")
    outcome = await execute(run)
    finished = [e for e in run.trace.events if isinstance(e, CallFinished) and e.role == "actor"]
    assert {event.end for event in finished} == {"finished"}
    each = len(["Step", " 0", " is", " right.", "\n\nThen"])  # and as many of "So it is ..."
    assert outcome.usage["actor"].completion == 4 * 3 * each
    assert outcome.usage["actor"].wasted == 0


async def test_each_prefix_is_continued_in_one_request() -> None:
    paths = Paths(0)
    run = make_run(paths.engine, "step_beam_search", {"width": 2, "k": 3})
    await execute(run)
    expansions = [call for call in paths.engine.calls if call.prefix is not None]
    assert [call.n for call in expansions] == [3] * len(expansions)
    assert len(expansions) == 4
    assert all(isinstance(call.prefix, tuple) for call in expansions)


@pytest.mark.parametrize("calls", range(1, 24))
async def test_search_returns_its_best_or_raises_if_the_budget_is_exhausted(calls: int) -> None:
    paths = Paths(0)
    run = make_run(paths.engine, "step_beam_search", max_calls=calls)
    try:
        outcome = await execute(run)
    except NoAnswerWithinBudget:
        assert not run.has_answer
    else:
        assert outcome.candidate.answer is not None
    assert run.budget.spent["calls"] <= calls
    assert_accounting_is_complete(run, paths.engine)


@pytest.mark.parametrize("grade", ["labels", "reward"])
async def test_search_is_independent_of_completion_order(grade: str) -> None:
    found = []
    for order in range(4):
        paths = Paths(1)
        paths.engine = Shuffled(paths.reply, order=order)
        found.append(
            await execute(make_run(paths.engine, "step_beam_search", {"grade": grade, "k": 3}))
        )
    assert len({outcome.candidate for outcome in found}) == 1
    assert found[0].candidate.answer == "42"


@pytest.mark.parametrize("max_steps", [1, 2, 3, 8])
async def test_a_solution_that_ends_with_the_stop_sequence_is_finished(max_steps: int) -> None:
    text = "Step 1.\n\nIt is \\boxed{42}.\n\n"
    engine = ScriptedEngine(lambda *_: Reply(text, labels={"yes": 0.9, "no": 0.1}))
    run = make_run(engine, "step_beam_search", {"max_steps": max_steps}, max_calls=200)
    outcome = await execute(run)
    assert (outcome.candidate.text, outcome.candidate.answer) == (text, "42")
    assert (outcome.candidate.score, outcome.stop_reason) == (0.9, "finished")
    assert_accounting_is_complete(run, engine)
