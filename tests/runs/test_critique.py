"""Critiques: their shape, their sampling, and prompts after a draft or in the question."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

import pytest
from pydantic import BaseModel

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RoleDefaults
from secondpass.strategies.api.errors import VerdictUnreadable
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.values import SOLVE, Draw, Role
from secondpass.strategies.judging.reply_schemas import Critique, Feedback
from secondpass.strategies.judging.written_grades import FirstError, first_error_among
from secondpass.testing.support import make_run, says
from tests.runs.changed import changed
from tests.runs.judges import LABELS_AND_SCHEMA, OPINION, in_turn, verdicts

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]


@pytest.mark.parametrize("shape", [Feedback, Critique, FirstError, first_error_among(3)])
async def test_an_engine_that_holds_to_a_shape_has_reasons_written_before_the_verdict(
    shape: type[BaseModel],
) -> None:
    engine = ScriptedEngine(lacking=frozenset({"labels"}))
    with suppress(VerdictUnreadable):
        await make_run(engine).critique("is_right", shape)
    held = json.loads(engine.calls[0].schema or "{}")
    assert list(held["properties"]) == list(shape.model_fields)
    assert next(iter(held["properties"])) in ("issues", "reason")


async def test_a_critique_has_the_shape_that_was_asked_for_and_can_be_continued() -> None:
    engine = ScriptedEngine(in_turn("So 42.", OPINION, "So 43."))
    run = make_run(engine)
    draft = await run.ask(SOLVE)
    completion, critique = await run.critique("is_right", Critique, after=draft)
    assert (critique.verdict, critique.first_wrong_step) == ("wrong", 2)
    assert json.loads(engine.calls[1].schema or "")["required"] == [
        "issues",
        "first_wrong_step",
        "verdict",
    ]
    await run.ask("is_right", after=completion)
    roles = [message.role for message in engine.calls[2].messages]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    (seen,) = verdicts(run)
    assert (seen.verdict, seen.how) == ("wrong", "schema")
    assert seen.reply == {"issues": ["step 2 adds"], "first_wrong_step": 2, "verdict": "wrong"}


async def test_a_critique_without_a_schema_is_the_first_object_in_the_text() -> None:
    engine = ScriptedEngine(says(f"Well.\n```json\n{OPINION}\n```"), lacking=LABELS_AND_SCHEMA)
    run = make_run(engine)
    _, critique = await run.critique("is_right", Critique)
    assert critique.issues == ["step 2 adds"]
    assert engine.calls[0].schema is None


async def test_a_critique_that_took_two_calls_is_continued_as_if_it_had_taken_one() -> None:
    engine = ScriptedEngine(in_turn("hm", OPINION), lacking=LABELS_AND_SCHEMA)
    run = make_run(engine)
    completion, _ = await run.critique("is_right", Critique)
    assert len(completion.messages) == 1
    again = engine.calls[1].messages[-1].text
    assert '"first_wrong_step"' in again


async def test_a_critique_that_cannot_be_read_is_reported_with_how_it_was_read() -> None:
    run = make_run(ScriptedEngine(says("hm"), lacking=LABELS_AND_SCHEMA))
    with pytest.raises(VerdictUnreadable):
        await run.critique("is_right", Critique)
    (seen,) = verdicts(run)
    assert (seen.how, seen.verdict) == ("text", None)
    assert seen.error


async def test_a_prompt_can_be_the_last_paragraph_of_the_question() -> None:
    engine = ScriptedEngine()
    run = make_run(engine, question="What is 6 times 7?")
    async with run.sample("hint", 2, after="question", tried=["41"]) as drafts:
        assert len([draft async for draft in drafts]) == 2
    (message,) = engine.calls[0].messages
    assert message.text.startswith("What is 6 times 7?\n\nNot [TRIED 1 ")


async def test_a_revision_can_forget_the_versions_before_it() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    first = await run.ask(SOLVE)
    second = await run.ask("is_right", after=first)
    assert len(second.messages) == 3
    await run.ask("is_right", after=second.in_reply_to(first.messages))
    assert [message.text for message in engine.calls[2].messages] == [
        run.question,
        second.text,
        "Is this right?",
    ]


REASONS = Profile(name="thinker", is_thinking=True, temperature=0.6)


def reasoning(run: LiveRun, defaults: Mapping[Role, RoleDefaults] | None = None) -> LiveRun:
    """The run once more, with a critic that reasons."""
    profiles: dict[Role, Profile] = {"critic": REASONS, "judge": REASONS}
    return changed(run, profiles=profiles, defaults=defaults or {})


@pytest.mark.parametrize("wanted", [None, 0.0])
async def test_a_critic_that_reasons_is_never_drawn_at_temperature_0(wanted: float | None) -> None:
    engine = ScriptedEngine(says(f"<think>{{no}}</think>\n{OPINION}"), lacking=LABELS_AND_SCHEMA)
    run = reasoning(make_run(engine))
    _, critique = await run.critique("is_right", Critique, draw=Draw(temperature=wanted))
    assert critique.verdict == "wrong"
    assert engine.calls[0].sampling.temperature == 0.6


async def test_what_a_role_is_drawn_with_can_be_set() -> None:
    engine = ScriptedEngine(says(OPINION))
    run = reasoning(make_run(engine), {"critic": RoleDefaults(0.9, 99)})
    await run.critique("is_right", Critique)
    assert (engine.calls[0].sampling.temperature, engine.calls[0].sampling.max_tokens) == (0.9, 99)


async def test_notes_reach_the_outcome_and_the_last_word_stands() -> None:
    run = make_run()
    run.note("judge", "first")
    assert run.model("judge").trust() == 0.0
    assert run.model("critic").trust(always=True) == 1.0
    outcome = await execute(run)
    assert outcome.notes == {
        "judge": "not calibrated: unweighted votes",
        "critic": "not calibrated: weighted votes, as requested",
    }
