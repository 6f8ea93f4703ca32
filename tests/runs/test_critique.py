"""The verb `critique`: reply shape, sampling and prompt placement; notes of a run."""

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
from secondpass.strategies.judging.written_grades import FirstError, first_error_schema
from secondpass.testing.support import constant_reply, make_run
from tests.runs.judges import LABELS_AND_SCHEMA, OPINION, replies_in_order, verdicts
from tests.runs.run_variants import with_spec

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]


@pytest.mark.parametrize("shape", [Feedback, Critique, FirstError, first_error_schema(3)])
async def test_schema_orders_reasons_before_the_verdict(
    shape: type[BaseModel],
) -> None:
    engine = ScriptedEngine(lacking=frozenset({"labels"}))
    with suppress(VerdictUnreadable):
        await make_run(engine).critique("is_right", shape)
    schema = json.loads(engine.calls[0].schema or "{}")
    assert list(schema["properties"]) == list(shape.model_fields)
    assert next(iter(schema["properties"])) in ("issues", "reason")


async def test_critique_has_the_requested_shape_and_can_be_followed_up() -> None:
    engine = ScriptedEngine(replies_in_order("So 42.", OPINION, "So 43."))
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


async def test_critique_without_a_schema_is_the_first_object_in_the_text() -> None:
    engine = ScriptedEngine(
        constant_reply(f"Well.\n```json\n{OPINION}\n```"), lacking=LABELS_AND_SCHEMA
    )
    run = make_run(engine)
    _, critique = await run.critique("is_right", Critique)
    assert critique.issues == ["step 2 adds"]
    assert engine.calls[0].schema is None


async def test_retried_critique_omits_the_retry_from_its_messages() -> None:
    engine = ScriptedEngine(replies_in_order("hm", OPINION), lacking=LABELS_AND_SCHEMA)
    run = make_run(engine)
    completion, _ = await run.critique("is_right", Critique)
    assert len(completion.messages) == 1
    correction = engine.calls[1].messages[-1].text
    assert '"first_wrong_step"' in correction


async def test_unreadable_critique_is_reported_with_its_reading_method() -> None:
    run = make_run(ScriptedEngine(constant_reply("hm"), lacking=LABELS_AND_SCHEMA))
    with pytest.raises(VerdictUnreadable):
        await run.critique("is_right", Critique)
    (seen,) = verdicts(run)
    assert (seen.how, seen.verdict) == ("text", None)
    assert seen.error


async def test_prompt_can_be_the_last_paragraph_of_the_question() -> None:
    engine = ScriptedEngine()
    run = make_run(engine, question="What is 6 times 7?")
    async with run.sample("hint", 2, after="question", tried=["41"]) as drafts:
        assert len([draft async for draft in drafts]) == 2
    (message,) = engine.calls[0].messages
    assert message.text.startswith("What is 6 times 7?\n\nNot [TRIED 1 ")


async def test_revision_can_omit_earlier_versions() -> None:
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


REASONING_PROFILE = Profile(name="thinker", is_thinking=True, temperature=0.6)


def with_reasoning_critic(
    run: LiveRun, defaults: Mapping[Role, RoleDefaults] | None = None
) -> LiveRun:
    """Return a copy of the run in which critic and judge are reasoning models."""
    profiles: dict[Role, Profile] = {"critic": REASONING_PROFILE, "judge": REASONING_PROFILE}
    return with_spec(run, profiles=profiles, defaults=defaults or {})


@pytest.mark.parametrize("requested", [None, 0.0])
async def test_reasoning_critic_is_never_sampled_at_temperature_0(requested: float | None) -> None:
    engine = ScriptedEngine(
        constant_reply(f"<think>{{no}}</think>\n{OPINION}"), lacking=LABELS_AND_SCHEMA
    )
    run = with_reasoning_critic(make_run(engine))
    _, critique = await run.critique("is_right", Critique, draw=Draw(temperature=requested))
    assert critique.verdict == "wrong"
    assert engine.calls[0].sampling.temperature == 0.6


async def test_role_defaults_set_temperature_and_max_tokens() -> None:
    engine = ScriptedEngine(constant_reply(OPINION))
    run = with_reasoning_critic(make_run(engine), {"critic": RoleDefaults(0.9, 99)})
    await run.critique("is_right", Critique)
    assert (engine.calls[0].sampling.temperature, engine.calls[0].sampling.max_tokens) == (0.9, 99)


async def test_outcome_contains_the_last_note_on_each_subject() -> None:
    run = make_run()
    run.note("judge", "first")
    assert run.model("judge").trust() == 0.0
    assert run.model("critic").trust(always=True) == 1.0
    outcome = await execute(run)
    assert outcome.notes == {
        "judge": "not calibrated: unweighted votes",
        "critic": "not calibrated: weighted votes, as requested",
    }
