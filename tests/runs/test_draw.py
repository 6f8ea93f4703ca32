"""Sampling parameters and stop strings of calls, and the `Model` of a role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RoleDefaults, SharedResources
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import RoleMissing
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw, Sampling
from secondpass.strategies.judging.reply_schemas import Critique
from secondpass.testing.support import constant_reply, make_run, upstream
from tests.runs.judges import LABELS_AND_SCHEMA, OPINION
from tests.runs.run_variants import with_spec

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]

DRAW = Draw(temperature=0.3, top_p=0.4, max_tokens=8, stop=("STOP",), logprobs=2, seed_offset=1000)
CLIENT = Sampling(temperature=1.5, top_p=0.9, max_tokens=9, stop=("END", "STOP"), seed=5, top_k=3)


# -- sampling parameters ------------------------------------------------------------------------------------


async def ask(run: LiveRun, draw: Draw) -> None:
    await run.ask(SOLVE, draw=draw)


async def ask_resumable(run: LiveRun, draw: Draw) -> None:
    await run.ask(SOLVE, draw=draw, resumable=True)


async def sample(run: LiveRun, draw: Draw) -> None:
    async with run.sample(SOLVE, 1, draw=draw) as drafts:
        [draft async for draft in drafts]


async def sample_prefix(run: LiveRun, draw: Draw) -> None:
    prefix = Completion.of("one", run.messages)
    async with run.sample(SOLVE, 1, prefix=prefix, draw=draw) as drafts:
        [draft async for draft in drafts]


async def steps(run: LiveRun, draw: Draw) -> None:
    async with run.steps(SOLVE, draw=draw) as stream:
        [step async for step in stream]


async def extend(run: LiveRun, draw: Draw) -> None:
    await run.extend(Completion.of("one", run.messages), draw=draw)


async def extend_steps(run: LiveRun, draw: Draw) -> None:
    async with run.extend_steps(Completion.of("one", run.messages), draw=draw) as stream:
        [step async for step in stream]


async def classify(run: LiveRun, draw: Draw) -> None:
    await run.classify("is_right", ("yes", "no"), draw=draw)


async def compare(run: LiveRun, draw: Draw) -> None:
    await run.compare(Candidate(text="It is 1."), Candidate(text="It is 2."), draw=draw)


async def critique(run: LiveRun, draw: Draw) -> None:
    await run.critique("is_right", Critique, draw=draw)


Verb = Callable[[LiveRun, Draw], Awaitable[None]]
GENERATING: list[Verb] = [ask, ask_resumable, sample, sample_prefix, steps, extend, extend_steps]
JUDGING: dict[Verb, str] = {classify: "yes", compare: "A", critique: OPINION}


async def call_of(verb: Verb, draw: Draw, sampling: Sampling, text: str = "one two three") -> Call:
    engine = ScriptedEngine(constant_reply(text), lacking=LABELS_AND_SCHEMA)
    await verb(make_run(engine, sampling=sampling), draw)
    return engine.calls[0]


@pytest.mark.parametrize("verb", GENERATING, ids=lambda verb: verb.__name__)
async def test_every_draw_field_reaches_a_generating_call(verb: Verb) -> None:
    call = await call_of(verb, DRAW, CLIENT)
    assert call.sampling.temperature == 0.3
    assert call.sampling.top_p == 0.4
    assert call.sampling.max_tokens == 8
    assert set(call.sampling.stop or ()) == {"END", "STOP"}
    assert call.logprobs == 2
    assert call.sampling.top_k == 3
    plain = await call_of(verb, Draw(), CLIENT)
    assert plain.sampling.seed is not None
    assert call.sampling.seed == plain.sampling.seed + 1000
    assert (plain.sampling.temperature, plain.sampling.top_p) == (1.5, 0.9)
    assert (plain.sampling.max_tokens, plain.sampling.stop) == (9, ("END", "STOP"))
    assert plain.logprobs is None


@pytest.mark.parametrize("verb", JUDGING, ids=lambda verb: verb.__name__)
async def test_every_draw_field_reaches_a_judging_call(verb: Verb) -> None:
    call = await call_of(verb, DRAW, CLIENT, JUDGING[verb])
    sampling = call.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.3, 0.4, 8)
    assert call.sampling.stop == ("STOP",)
    assert call.logprobs == 2
    plain = await call_of(verb, Draw(), CLIENT, JUDGING[verb])
    assert plain.sampling.seed is not None
    assert call.sampling.seed == plain.sampling.seed + 1000
    assert (plain.sampling.temperature, plain.sampling.stop) == (0, None)
    assert plain.sampling.top_k is None


async def test_max_tokens_is_capped_by_the_client() -> None:
    assert (await call_of(ask, Draw(max_tokens=20), CLIENT)).sampling.max_tokens == 9
    assert (await call_of(ask, Draw(max_tokens=20), Sampling())).sampling.max_tokens == 20
    assert (await call_of(ask, Draw(), Sampling())).sampling.max_tokens == 256


async def test_seed_offset_without_a_seed_sets_no_seed() -> None:
    assert (await call_of(ask, DRAW, Sampling())).sampling.seed is None


async def test_temperature_precedence_is_draw_client_role() -> None:
    for draw, client, expected in ((0.0, 0.5, 0.0), (None, 0.5, 0.5), (None, None, 0.9)):
        engine = ScriptedEngine()
        run = make_run(engine, sampling=Sampling(temperature=client))
        run = with_spec(run, defaults={"actor": RoleDefaults(0.9)})
        await run.ask(SOLVE, draw=Draw(temperature=draw))
        assert engine.calls[0].sampling.temperature == expected


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("temperature", [-0.1, 2.1]),
        ("top_p", [0.0, -1.0, 1.1]),
        ("max_tokens", [0, -5]),
        ("stop", [("",), ("a", ""), ["a"], "abc"]),
        ("logprobs", [-1]),
    ],
)
def test_invalid_draw_raises_an_error_naming_the_field(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{field}: "):
            Draw(**{field: value})


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0.0, "top_p": 1.0, "max_tokens": 1, "logprobs": 0},
        {"temperature": 2.0, "top_p": 0.001, "stop": ("\n", "a")},
    ],
)
def test_draw_accepts_its_boundary_values(values: dict[str, Any]) -> None:
    assert Draw(**values) == Draw(**values)


# -- stop strings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "draw", "text"),
    [
        (("four",), (), "one two three "),
        ((), ("four",), "one two three four"),
        (("four",), ("four",), "one two three four"),
        (("four",), ("two",), "one two"),
        (("two",), ("four",), "one "),
    ],
)
async def test_resumable_completion_keeps_stop_strings_of_the_draw_but_not_of_the_client(
    client: tuple[str, ...], draw: tuple[str, ...], text: str
) -> None:
    engine = ScriptedEngine(constant_reply("one two three four five six"))
    run = make_run(engine, sampling=Sampling(stop=client or None))
    for draft in (
        await run.ask(SOLVE, resumable=True, draw=Draw(stop=draw)),
        *[each async for each in streamed(run, draw)],
    ):
        assert draft.text == text
        assert draft.finish_reason == "stop"


async def streamed(run: LiveRun, stop: tuple[str, ...]) -> AsyncIterator[Completion]:
    async with run.steps(SOLVE, draw=Draw(stop=stop)) as stream:
        async for _ in stream:
            pass
        yield stream.completion


async def test_non_resumable_completion_excludes_every_stop_string() -> None:
    engine = ScriptedEngine(constant_reply("one two three four five six"))
    run = make_run(engine, sampling=Sampling(stop=("five",)))
    assert (await run.ask(SOLVE, draw=Draw(stop=("four",)))).text.strip() == "one two three"


async def test_completion_is_continued_after_its_stop_string() -> None:
    engine = ScriptedEngine(constant_reply("one two three four five six"))
    run = make_run(engine)
    first = await run.ask(SOLVE, resumable=True, draw=Draw(stop=("three",)))
    assert first.text == "one two three"
    longer = await run.extend(first)
    assert longer.text == "one two three four five six"


# -- models -------------------------------------------------------------------------------------------------


async def test_missing_role_has_no_capabilities_and_no_profile() -> None:
    run = with_spec(make_run(), upstreams={"actor": upstream(ScriptedEngine())})
    model = run.model("judge")
    assert not model.can()
    assert not model.can("labels")
    assert model.calibration() is None
    assert model.trust() == 0.0
    assert model.median_length is None
    with pytest.raises(RoleMissing, match="'judge'"):
        _ = model.profile
    assert run.model("actor").can()
    assert run.model("actor").can("labels", "prefix")


async def test_can_requires_all_capabilities() -> None:
    run = make_run(ScriptedEngine(lacking=frozenset({"labels"})))
    assert run.model().can("prefix")
    assert not run.model().can("prefix", "labels")


async def test_profile_is_configured_or_derived_from_the_model_name() -> None:
    engine = ScriptedEngine(model="Qwen/QwQ-32B")
    assert make_run(engine).model().profile.name == "qwen3"
    own = Profile(name="own", is_thinking=False)
    assert with_spec(make_run(engine), profiles={"actor": own}).model().profile == own


async def test_median_length_is_known_after_8_answers_but_not_under_a_seed() -> None:
    shared = SharedResources(Equivalence())
    run = make_run(ScriptedEngine(constant_reply("one two three")), shared=shared)
    for _ in range(7):
        await run.ask(SOLVE)
    assert run.model().median_length is None
    await run.ask(SOLVE)
    assert run.model().median_length == 3
    seeded = make_run(ScriptedEngine(), shared=shared, sampling=Sampling(seed=1))
    assert seeded.model().median_length is None
