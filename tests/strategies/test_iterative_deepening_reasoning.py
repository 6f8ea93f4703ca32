"""iterative_deepening with reasoning models, whose reasoning is reopened for each trigger."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from secondpass.service.calls.length_stats import MIN_COMPLETIONS
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.lab.pools.wrapper import EngineWrapper
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run_spec import SharedResources
from secondpass.strategies import prompts
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.values import SOLVE, Sampling
from secondpass.testing.support import assert_accounting_is_complete, make_run
from tests.strategies.deepening_script import FORCE, NAME
from tests.strategies.run_notes import notes

WAIT = prompts.PROMPTS["deepen_thoughts"]
CLOSING = "</think>"

Separation = Literal["nowhere", "first", "everywhere"]
"""Replies in which the engine returns reasoning separately; "first": all except continuations."""


class Parsing(EngineWrapper):
    """Engine that returns reasoning separately, as vLLM's reasoning parsers do; "first" is the chat route."""

    def __init__(self, engine: ScriptedEngine, separation: Separation) -> None:
        super().__init__(engine)
        self.scripted, self._separation = engine, separation

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        is_separate = self._separation == "everywhere" or (
            self._separation == "first" and call.prefix is None
        )
        is_reasoning = is_separate and CLOSING not in self.scripted.prefix_text(call)
        async with aclosing(self.engine.stream(call)) as deltas:
            async for delta in deltas:
                if is_separate and any(tag in delta.text for tag in ("<think>", CLOSING)):
                    is_reasoning = is_reasoning and CLOSING not in delta.text
                    yield replace(delta, text="")
                elif is_reasoning:
                    yield replace(delta, text="", reasoning=delta.text)
                else:
                    yield delta


@dataclass(frozen=True)
class Reasoner:
    """Model that reasons for `words` words after each reflection prompt and answers with values[turn]."""

    values: tuple[str, ...]
    forced: tuple[str, ...] = ("7",)
    words: int = 40

    def engine(self, separation: Separation, model: str = "Qwen3-8B", **options: Any) -> Parsing:
        def script(call: Call, _index: int) -> Reply:
            return Reply(self.reply(scripted.prefix_text(call), call))

        scripted = ScriptedEngine(script, model=model, **options)
        return Parsing(scripted, separation)

    def reply(self, prefix: str, call: Call) -> str:
        turn = prefix.count(WAIT)
        if call.purpose == "force":
            return f"{prefix}{self.forced[min(turn, len(self.forced) - 1)]}}} or so"
        reasoning = "".join(f" Thought {i} of {turn}." for i in range(self.words // 4))
        whole = (
            f"{reasoning} {CLOSING} So \\boxed{{{self.values[min(turn, len(self.values) - 1)]}}}."
        )
        partial = (
            prefix.rpartition(f"\n\n{WAIT}\n\n")[2] if turn else prefix.removeprefix("<think>")
        )
        return prefix + ("" if prefix else "<think>") + whole.removeprefix(partial)


def assert_reasoning_is_open(engine: Parsing) -> None:
    """Assert that every reflection prompt was inserted inside the reasoning."""
    for call in engine.scripted.calls:
        before, reflection, _ = engine.scripted.prefix_text(call).rpartition(WAIT)
        if reflection:
            assert CLOSING not in before
            assert before.startswith("<think>")
            assert before.rstrip().endswith(".")


@pytest.mark.anyio
@pytest.mark.parametrize("separation", ["nowhere", "first", "everywhere"])
@pytest.mark.parametrize(
    ("values", "answer"), [(("41", "42", "42"), "42"), (("42", "41", "40"), "42"), (("42",), "42")]
)
async def test_reasoning_is_reopened_at_its_end(
    separation: Separation, values: tuple[str, ...], answer: str
) -> None:
    engine = Reasoner(values).engine(separation)
    run = make_run(engine, NAME, {"n": 1})
    outcome = await execute(run)
    assert outcome.candidate.answer == answer
    assert "Thought" not in outcome.candidate.text or separation == "nowhere"
    calls = engine.scripted.calls
    assert [call.purpose for call in calls] == [SOLVE] + ["extend"] * (2 if len(values) > 1 else 1)
    assert all(call.sampling.max_tokens == 256 for call in calls)
    assert_reasoning_is_open(engine)
    assert "no median length" in notes(run)["b0"]
    assert_accounting_is_complete(run, engine.scripted)


@pytest.mark.anyio
@pytest.mark.parametrize("separation", ["nowhere", "first", "everywhere"])
async def test_reasoning_gets_triggers_at_token_budgets_and_forced_answers(
    separation: Separation,
) -> None:
    engine = Reasoner(("42",), forced=("7", "8"), words=400).engine(separation)
    run = make_run(engine, NAME, {"n": 1, "b0": 20})
    outcome = await execute(run)
    purposes = [call.purpose for call in engine.scripted.calls]
    assert purposes[:5] == [SOLVE, "force", "extend", "force", "extend"]
    assert_reasoning_is_open(engine)
    for call in engine.scripted.calls:
        if call.purpose == "force":
            prefix = engine.scripted.prefix_text(call)
            assert prefix.endswith(f".\n{CLOSING}\n\n{FORCE}")
    assert outcome.candidate.answer is not None
    assert_accounting_is_complete(run, engine.scripted)


@pytest.mark.anyio
@pytest.mark.parametrize("separation", ["nowhere", "first", "everywhere"])
async def test_forced_answers_that_agree_end_the_reasoning(separation: Separation) -> None:
    engine = Reasoner(("42",), words=400).engine(separation)
    run = make_run(engine, NAME, {"n": 1, "b0": 20})
    outcome = await execute(run)
    assert outcome.candidate.answer == "7"
    assert outcome.candidate.text.endswith(f"{FORCE}7}}.")
    assert len(engine.scripted.calls) == 4


@pytest.mark.anyio
@pytest.mark.parametrize("separation", ["nowhere", "first", "everywhere"])
async def test_an_answer_truncated_by_a_token_budget_is_continued_to_its_end(
    separation: Separation,
) -> None:
    engine = Reasoner(("41", "42", "42"), words=12).engine(separation)
    run = make_run(engine, NAME, {"n": 1, "b0": 16})  # 14 tokens of reasoning, and "So"
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert all(call.purpose != "force" for call in engine.scripted.calls)
    assert_reasoning_is_open(engine)


def shared_with_lengths(model: str, *lengths: int) -> SharedResources:
    shared = SharedResources(Equivalence())
    for length in lengths:
        shared.stats.lengths.add(("single", "actor", SOLVE, model), length)
    return shared


@pytest.mark.anyio
async def test_half_of_the_median_length_is_the_first_budget() -> None:
    engine = Reasoner(("42",)).engine("first")
    run = make_run(
        engine, NAME, shared=shared_with_lengths("Qwen3-8B", *[40] * MIN_COMPLETIONS, 1000, 1000)
    )
    await execute(run)
    drafts = [call for call in engine.scripted.calls if call.purpose == SOLVE]
    assert {call.sampling.max_tokens for call in drafts} == {20}
    assert notes(run)["b0"].startswith("20 tokens")


@pytest.mark.anyio
@pytest.mark.parametrize("sampling", [Sampling(seed=1), Sampling()])
async def test_no_length_is_learned_from_partial_drafts_or_used_with_a_seed(
    sampling: Sampling,
) -> None:
    engine = Reasoner(("42",)).engine("first")
    shared = shared_with_lengths(
        "Qwen3-8B", *[1000] * (MIN_COMPLETIONS if sampling.seed else MIN_COMPLETIONS - 1)
    )
    run = make_run(
        engine, NAME, {"b0": 16} if not sampling.seed else {}, shared=shared, sampling=sampling
    )
    await execute(run)
    if sampling.seed:
        assert "no median length" in notes(run)["b0"]
    else:
        assert run.model().median_length is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("model", "lacking", "why"),
    [
        ("Qwen3-8B", "tokenize", "does not return"),
        ("gpt-oss-20b", None, "separate message"),
    ],
)
async def test_a_plain_vote_is_used_if_reasoning_cannot_be_reopened(
    model: str, lacking: Any, why: str
) -> None:
    engine = Reasoner(("42",)).engine(
        "first", model, lacking=frozenset({lacking} if lacking else ())
    )
    run = make_run(engine, NAME)
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert {call.purpose for call in engine.scripted.calls} == {SOLVE}
    assert why in notes(run)["not deepened"]


@pytest.mark.anyio
@pytest.mark.parametrize("separation", ["nowhere", "first", "everywhere"])
async def test_reasoning_without_a_conclusion_has_no_answer(separation: Separation) -> None:
    def script(call: Call, _index: int) -> Reply:
        prefix = scripted.prefix_text(call)
        return Reply(
            f"{prefix}6}} or" if call.purpose == "force" else "<think> It is \\boxed{3}. Or"
        )

    scripted = ScriptedEngine(script, model="Qwen3-8B")
    run = make_run(Parsing(scripted, separation), NAME, {"n": 1})
    outcome = await execute(run)
    assert outcome.candidate.answer == "6"
