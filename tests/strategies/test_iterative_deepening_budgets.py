"""Token budgets of iterative_deepening: positions of triggers, and answers forced there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import SOLVE
from secondpass.strategies.continuation.forced_answer import MAX_TOKENS
from secondpass.strategies.continuation.safe_points import is_safe_end
from secondpass.testing.support import assert_accounting_is_complete, make_run
from tests.strategies.deepening_script import CHOICE, FORCE, NAME, REFLECTION, reflections
from tests.strategies.run_notes import notes

LONG = "".join(f"Step {i} is done with care. " for i in range(1, 51)) + "So \\boxed{42}."


def continuing(text: str, forced: str = "7") -> tuple[ScriptedEngine, Script]:
    """Return an engine that generates `text` in each chain and `forced` as each forced answer.

    It ignores reflection prompts.
    """

    def script(call: Call, _index: int) -> Reply:
        prefix = engine.prefix_text(call)
        if call.purpose == "force":
            return Reply(f"{prefix}{forced}}} and more")
        generated = "".join(part for part in prefix.split(f"\n\n{REFLECTION}\n\n"))
        return Reply(prefix + text[len(generated) :])

    engine = ScriptedEngine(script)
    return engine, script


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reading", "gamma", "points"),
    [
        ("cumulative", 2, (32, 64, 128)),
        ("segment", 2, (32, 96, 224)),
        ("cumulative", 3, (32, 96, 288)),
        ("segment", 1, (32, 64, 96)),
    ],
)
async def test_triggers_follow_growing_budgets(
    reading: str, gamma: float, points: tuple[int, ...]
) -> None:
    engine, _ = continuing(LONG, forced="{}")  # forced answers never agree
    params = {"n": 1, "b0": 32, "gamma": gamma, "reading": reading, "max_triggers": 3}
    run = make_run(engine, NAME, {**params, "agree": 4})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    written = [c for c in engine.calls if c.purpose != "force"]
    caps = [call.sampling.max_tokens or 0 for call in written[:3]]
    assert tuple(sum(caps[: k + 1]) for k in range(3)) == points
    assert [reflections(call) for call in written] == [0, 1, 2, 3]
    for call in written[1:]:
        before = engine.prefix_text(call).rpartition(f"\n\n{REFLECTION}\n\n")[0]
        assert before.endswith("care.")


@pytest.mark.anyio
async def test_answers_are_forced_and_a_chain_ends_when_they_agree() -> None:
    engine, _ = continuing(LONG)
    run = make_run(engine, NAME, {"n": 1, "b0": 32})
    outcome = await execute(run)
    assert outcome.candidate.answer == "7"
    assert outcome.candidate.text.endswith(f"{FORCE}7}}.")
    assert [call.purpose for call in engine.calls] == [SOLVE, "force", "extend", "force"]
    force = engine.calls[1]
    assert (force.sampling.temperature, force.sampling.max_tokens) == (0, MAX_TOKENS)
    assert FORCE not in engine.prefix_text(engine.calls[2])
    assert notes(run)["forced"].startswith("2 answers")
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
async def test_a_forced_answer_that_is_not_repeated_gives_way_to_the_chains_own() -> None:
    engine, _ = continuing(LONG)
    run = make_run(engine, NAME, {"n": 1, "b0": 64, "max_triggers": 1})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"


@pytest.mark.anyio
async def test_the_weight_of_a_forced_answer_is_the_confidence_of_its_chain() -> None:
    def script(call: Call, _index: int) -> Reply:
        prefix, is_confident = engine.prefix_text(call), call.index == 1
        if call.purpose == "force":
            return Reply(f"{prefix}{42 if is_confident else 41}}}.")
        return Reply(prefix + LONG[len(prefix) :], confidence=20.0 if is_confident else 1.0)

    engine = ScriptedEngine(script)
    params = {"n": 3, "b0": 32, "width": 1, "weight": "confidence", "group": 8}
    outcome = await execute(make_run(engine, NAME, params))
    assert outcome.candidate.answer == "42"
    assert outcome.candidate.score_kind == "weighted_vote_share"


@pytest.mark.anyio
async def test_a_segment_without_a_safe_point_is_continued_to_its_end() -> None:
    text = "```\n" + "word " * 60 + "\n```\nSo \\boxed{42}."
    engine, _ = continuing(text)
    run = make_run(engine, NAME, {"n": 1, "b0": 16})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert [reflections(call) for call in engine.calls if call.purpose == "extend"][:2] == [0, 1]


FRAGMENTS = st.sampled_from(
    [
        "\\boxed{4 2} ", "\\boxed{ x ", "} ", "```\n", "<tool_call> ", "</tool_call> ",
        "3.14 ", "12 ", "1. ", "So. ", "It is so. ", "\n\n", "\\[ a ", "\\] ", "word ",
    ]
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@example("\\boxed{4 2} " * 20, 40, 1, "cumulative")  # the cap leaves only its last space
@given(
    st.lists(FRAGMENTS, min_size=20, max_size=60).map(lambda parts: "So. " + "".join(parts)),
    st.integers(16, 40),
    st.integers(1, 4),
    st.sampled_from(["cumulative", "segment"]),
)
def test_triggers_are_at_safe_points_and_at_most_max_triggers(
    text: str, b0: int, most: int, reading: str
) -> None:
    engine, _ = continuing(text, forced="{}")
    params = {"n": 1, "b0": b0, "max_triggers": most, "reading": reading}
    anyio.run(_execute, engine, params)
    for call in engine.calls:
        parts = engine.prefix_text(call).split(f"\n\n{REFLECTION}\n\n")
        assert len(parts) <= most + 1
        for number in range(1, len(parts)):
            before = "".join(parts[:number])
            assert is_safe_end(before)
            assert text.startswith(before)
            assert not (before[-1:].isdigit() and text[len(before) : len(before) + 1].isdigit())


async def _execute(engine: ScriptedEngine, params: Mapping[str, Any]) -> None:
    run = make_run(engine, NAME, params, task=CHOICE)  # choices are compared without a worker
    assert (await execute(run)).candidate.text.strip()
    assert_accounting_is_complete(run, engine)
