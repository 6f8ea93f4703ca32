"""Chains that doubt themselves: when the doubt counts, when it does not, where it stands, and when it is not raised."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from secondpass.service.calls.length_stats import LEAST
from secondpass.service.calls.wrapper import EngineWrapper
from secondpass.service.common.events import NoteMade
from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine, tokens_of
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import Shared
from secondpass.strategies import prompts
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.model_profiles import profile_of
from secondpass.strategies.api.values import SOLVE, Sampling
from secondpass.strategies.continuation.forced_answer import TOKENS, short_answer
from secondpass.strategies.continuation.safe_points import is_safe_end
from secondpass.strategies.iterative_deepening import IterativeDeepening
from secondpass.testing.support import MATH, OPEN, assert_books_are_closed, make_run, says

NAME = "iterative_deepening"
DOUBT = prompts.PROMPTS["deepen"]
WAIT = prompts.PROMPTS["deepen_thoughts"]
FORCE = prompts.PROMPTS["force_math"]
CLOSING = "</think>"
CHOICE = Task(kind="choice", options=("red", "green", "blue"))


def notes(run: LiveRun) -> dict[str, str]:
    return {event.about: event.what for event in run.trace.events if isinstance(event, NoteMade)}


def doubts(call: Call) -> int:
    return sum(DOUBT in piece for piece in call.prefix or () if isinstance(piece, str))


def segments(*chains: tuple[str, ...]) -> Script:
    """A script whose chains answer their values, one after each doubt."""

    def script(call: Call, index: int) -> Reply:
        values = chains[index % len(chains)]
        return Reply(f"So \\boxed{{{values[doubts(call)]}}}.")

    return script


# -- what a doubt changes ------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("values", "answer", "calls"),
    [
        (("42", "42"), "42", 2),  # agrees at once, and ends
        (("41", "42", "42"), "42", 3),  # a confirmed change
        (("42", "41", "42"), "42", 3),  # a flip-flop: the answer that came back
        (("42", "41", "40"), "42", 3),  # a change that nothing confirms
    ],
)
async def test_a_changed_answer_counts_when_it_is_given_twice(
    values: tuple[str, ...], answer: str, calls: int
) -> None:
    engine = ScriptedEngine(segments(values))
    run = make_run(engine, NAME, {"n": 1, "max_triggers": 2})
    outcome = await execute(run)
    assert outcome.candidate.answer == answer
    assert len(engine.calls) == calls
    assert_books_are_closed(run, engine)


@pytest.mark.anyio
async def test_a_model_that_does_not_think_doubts_once_when_it_has_finished() -> None:
    engine = ScriptedEngine(segments(("40", "41"), ("42", "43"), ("44", "45"), ("46", "47")))
    run = make_run(engine, NAME)
    outcome = await execute(run)
    assert outcome.candidate.answer == "40"
    assert sorted(doubts(call) for call in engine.calls) == [0] * 4 + [1] * 4
    assert all(call.purpose in (SOLVE, "extend") for call in engine.calls)


@pytest.mark.anyio
async def test_a_change_counts_where_another_chain_opened_with_it() -> None:
    engine = ScriptedEngine(segments(("40", "42"), ("41", "43"), ("42", "42"), ("40", "40")))
    run = make_run(engine, NAME, {"width": 1})
    outcome = await execute(run)
    # Chain 0 moves to 42 as soon as chain 2 has opened with it, and back once chain 3 opened with 40.
    assert outcome.candidate.answer == "40"
    assert outcome.candidate.why == "2 of 4 answers agree (4 samples drawn)"
    assert notes(run)["changed"] == "the answer changed within 2 of 4 chains"


@pytest.mark.anyio
async def test_one_chain_is_not_doubted_once_where_nothing_could_confirm_it() -> None:
    engine = ScriptedEngine(segments(("42", "41")))
    run = make_run(engine, NAME, {"n": 1})
    outcome = await execute(run)
    assert (outcome.candidate.answer, len(engine.calls)) == ("42", 1)
    assert "confirm" in notes(run)["not deepened"]


@pytest.mark.anyio
async def test_chains_that_are_not_needed_are_aborted_in_the_engine() -> None:
    engine = ScriptedEngine(segments(("42", "42")))
    run = make_run(engine, NAME, {"n": 3, "width": 1})
    outcome = await execute(run)
    assert outcome.stop_reason == "consensus"
    assert len(engine.calls) < 6
    assert_books_are_closed(run, engine)


@pytest.mark.anyio
async def test_a_draft_that_the_client_capped_is_not_gone_on_with_and_never_votes() -> None:
    engine = ScriptedEngine(segments(("42",)))
    run = make_run(engine, NAME, {"n": 2}, sampling=Sampling(max_tokens=1))
    outcome = await execute(run)
    assert outcome.candidate.answer is None
    assert len(engine.calls) == 2
    assert "length" in notes(run)["not deepened"]


@pytest.mark.anyio
async def test_chains_go_on_token_by_token_however_often_they_went_on() -> None:
    engine = ScriptedEngine(segments(("40", "41", "42")))
    run = make_run(engine, NAME, {"n": 1, "max_triggers": 2})
    await execute(run)
    held = [engine.held_by(call) for call in engine.calls]
    assert held[2].startswith(held[1])
    assert (held[1].count(DOUBT), held[2].count(DOUBT)) == (1, 2)
    first, second = (call.prefix for call in engine.calls[1:])
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert second[: len(first)] == first
    assert all(isinstance(piece, int) for piece in second[len(first) : -1])


@pytest.mark.anyio
async def test_a_server_without_tokens_goes_on_from_text() -> None:
    engine = ScriptedEngine(says("So \\boxed{42}."), lacking=frozenset({"tokenize"}))
    run = make_run(engine, NAME, {"n": 1, "max_triggers": 2})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    prefix = engine.calls[1].prefix
    assert isinstance(prefix, str)
    assert prefix.endswith(f"\n\n{DOUBT}\n\n")


# -- budgets inside a draft ----------------------------------------------------------------------------

LONG = "".join(f"Step {i} is done with care. " for i in range(1, 51)) + "So \\boxed{42}."


def goes_on(text: str, forced: str = "7") -> tuple[ScriptedEngine, Script]:
    """An engine that writes `text` in each chain, takes no notice of doubts, and says `forced` where it is forced."""

    def script(call: Call, _index: int) -> Reply:
        held = engine.held_by(call)
        if call.purpose == "force":
            return Reply(f"{held}{forced}}} and more")
        own = "".join(part for part in held.split(f"\n\n{DOUBT}\n\n"))
        return Reply(held + text[len(own) :])

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
async def test_triggers_stand_at_growing_budgets(
    reading: str, gamma: float, points: tuple[int, ...]
) -> None:
    engine, _ = goes_on(LONG, forced="{}")  # nothing is ever agreed on
    params = {"n": 1, "b0": 32, "gamma": gamma, "reading": reading, "max_triggers": 3}
    run = make_run(engine, NAME, {**params, "agree": 4})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    written = [c for c in engine.calls if c.purpose != "force"]
    caps = [call.sampling.max_tokens or 0 for call in written[:3]]
    assert tuple(sum(caps[: k + 1]) for k in range(3)) == points
    assert [doubts(call) for call in written] == [0, 1, 2, 3]
    for call in written[1:]:
        before = engine.held_by(call).rpartition(f"\n\n{DOUBT}\n\n")[0]
        assert before.endswith("care.")


@pytest.mark.anyio
async def test_segments_are_read_by_force_and_a_chain_ends_when_they_agree() -> None:
    engine, _ = goes_on(LONG)
    run = make_run(engine, NAME, {"n": 1, "b0": 32})
    outcome = await execute(run)
    assert outcome.candidate.answer == "7"
    assert outcome.candidate.text.endswith(f"{FORCE}7}}.")
    assert [call.purpose for call in engine.calls] == [SOLVE, "force", "extend", "force"]
    force = engine.calls[1]
    assert (force.sampling.temperature, force.sampling.max_tokens) == (0, TOKENS)
    assert FORCE not in engine.held_by(engine.calls[2])
    assert notes(run)["forced"].startswith("2 answers")
    assert_books_are_closed(run, engine)


@pytest.mark.anyio
async def test_a_forced_answer_that_does_not_come_back_gives_way_to_the_chains_own() -> None:
    engine, _ = goes_on(LONG)
    run = make_run(engine, NAME, {"n": 1, "b0": 64, "max_triggers": 1})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"


@pytest.mark.anyio
async def test_a_segment_without_a_safe_place_goes_on_to_its_end() -> None:
    text = "```\n" + "word " * 60 + "\n```\nSo \\boxed{42}."
    engine, _ = goes_on(text)
    run = make_run(engine, NAME, {"n": 1, "b0": 16})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert [doubts(call) for call in engine.calls if call.purpose == "extend"][:2] == [0, 1]


FRAGMENTS = st.sampled_from(
    [
        "\\boxed{4 2} ", "\\boxed{ x ", "} ", "```\n", "<tool_call> ", "</tool_call> ",
        "3.14 ", "12 ", "1. ", "So. ", "It is so. ", "\n\n", "\\[ a ", "\\] ", "word ",
    ]
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@example("\\boxed{4 2} " * 20, 40, 1, "cumulative")  # whose cap leaves nothing but its last space
@given(
    st.lists(FRAGMENTS, min_size=20, max_size=60).map(lambda parts: "So. " + "".join(parts)),
    st.integers(16, 40),
    st.integers(1, 4),
    st.sampled_from(["cumulative", "segment"]),
)
def test_a_trigger_never_lands_inside_anything_and_there_are_never_too_many(
    text: str, b0: int, most: int, reading: str
) -> None:
    engine, _ = goes_on(text, forced="{}")
    params = {"n": 1, "b0": b0, "max_triggers": most, "reading": reading}
    anyio.run(_execute, engine, params)
    for call in engine.calls:
        parts = engine.held_by(call).split(f"\n\n{DOUBT}\n\n")
        assert len(parts) <= most + 1
        for number in range(1, len(parts)):
            before = "".join(parts[:number])
            assert is_safe_end(before)
            assert text.startswith(before)
            assert not (before[-1:].isdigit() and text[len(before) : len(before) + 1].isdigit())


async def _execute(engine: ScriptedEngine, params: Mapping[str, Any]) -> None:
    run = make_run(engine, NAME, params, task=CHOICE)  # whose answers are compared without a worker
    assert (await execute(run)).candidate.text.strip()
    assert_books_are_closed(run, engine)


# -- models that think ---------------------------------------------------------------------------------

Apart = Literal["nowhere", "first", "everywhere"]


class Parsing(EngineWrapper):
    """Tells thoughts from text as vLLM's parsers do: where a reply begins ("first": its chat route), or "everywhere"."""

    def __init__(self, engine: ScriptedEngine, apart: Apart) -> None:
        super().__init__(engine)
        self.scripted, self._apart = engine, apart

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        is_told = self._apart == "everywhere" or (self._apart == "first" and call.prefix is None)
        is_thought = is_told and CLOSING not in self.scripted.held_by(call)
        async with aclosing(self.engine.stream(call)) as deltas:
            async for delta in deltas:
                if is_told and any(mark in delta.text for mark in ("<think>", CLOSING)):
                    is_thought = is_thought and CLOSING not in delta.text
                    yield replace(delta, text="")
                elif is_thought:
                    yield replace(delta, text="", reasoning=delta.text)
                else:
                    yield delta


@dataclass(frozen=True)
class Thinker:
    """A model that thinks so many words, and again after each doubt, and then answers with the value of that turn."""

    values: tuple[str, ...]
    forced: tuple[str, ...] = ("7",)
    words: int = 40

    def engine(self, apart: Apart, model: str = "Qwen3-8B", **how: Any) -> Parsing:
        def script(call: Call, _index: int) -> Reply:
            return Reply(self.says(scripted.held_by(call), call))

        scripted = ScriptedEngine(script, model=model, **how)
        return Parsing(scripted, apart)

    def says(self, held: str, call: Call) -> str:
        turn = held.count(WAIT)
        if call.purpose == "force":
            return f"{held}{self.forced[min(turn, len(self.forced) - 1)]}}} or so"
        thoughts = "".join(f" Thought {i} of {turn}." for i in range(self.words // 4))
        whole = (
            f"{thoughts} {CLOSING} So \\boxed{{{self.values[min(turn, len(self.values) - 1)]}}}."
        )
        begun = held.rpartition(f"\n\n{WAIT}\n\n")[2] if turn else held.removeprefix("<think>")
        return held + ("" if held else "<think>") + whole.removeprefix(begun)


def assert_thoughts_are_open(engine: Parsing) -> None:
    """No doubt was put behind the closing mark, and none was read as anything but a thought."""
    for call in engine.scripted.calls:
        before, mark, _ = engine.scripted.held_by(call).rpartition(WAIT)
        if mark:
            assert CLOSING not in before
            assert before.startswith("<think>")
            assert before.rstrip().endswith(".")


@pytest.mark.anyio
@pytest.mark.parametrize("apart", ["nowhere", "first", "everywhere"])
@pytest.mark.parametrize(
    ("values", "answer"), [(("41", "42", "42"), "42"), (("42", "41", "40"), "42"), (("42",), "42")]
)
async def test_thoughts_are_reopened_at_their_end(
    apart: Apart, values: tuple[str, ...], answer: str
) -> None:
    engine = Thinker(values).engine(apart)
    run = make_run(engine, NAME, {"n": 1})
    outcome = await execute(run)
    assert outcome.candidate.answer == answer
    assert "Thought" not in outcome.candidate.text or apart == "nowhere"
    calls = engine.scripted.calls
    assert [call.purpose for call in calls] == [SOLVE] + ["extend"] * (2 if len(values) > 1 else 1)
    assert all(call.sampling.max_tokens == 256 for call in calls)
    assert_thoughts_are_open(engine)
    assert "no usual length" in notes(run)["b0"]
    assert_books_are_closed(run, engine.scripted)


@pytest.mark.anyio
@pytest.mark.parametrize("apart", ["nowhere", "first", "everywhere"])
async def test_thoughts_are_doubted_at_budgets_and_read_by_force(apart: Apart) -> None:
    engine = Thinker(("42",), forced=("7", "8"), words=400).engine(apart)
    run = make_run(engine, NAME, {"n": 1, "b0": 20})
    outcome = await execute(run)
    purposes = [call.purpose for call in engine.scripted.calls]
    assert purposes[:5] == [SOLVE, "force", "extend", "force", "extend"]
    assert_thoughts_are_open(engine)
    for call in engine.scripted.calls:
        if call.purpose == "force":
            held = engine.scripted.held_by(call)
            assert held.endswith(f".\n{CLOSING}\n\n{FORCE}")
    assert outcome.candidate.answer is not None
    assert_books_are_closed(run, engine.scripted)


@pytest.mark.anyio
@pytest.mark.parametrize("apart", ["nowhere", "first", "everywhere"])
async def test_forced_answers_that_agree_end_the_thoughts(apart: Apart) -> None:
    engine = Thinker(("42",), words=400).engine(apart)
    run = make_run(engine, NAME, {"n": 1, "b0": 20})
    outcome = await execute(run)
    assert outcome.candidate.answer == "7"
    assert outcome.candidate.text.endswith(f"{FORCE}7}}.")
    assert len(engine.scripted.calls) == 4


@pytest.mark.anyio
@pytest.mark.parametrize("apart", ["nowhere", "first", "everywhere"])
async def test_a_budget_that_ends_in_the_answer_lets_it_be_finished(apart: Apart) -> None:
    engine = Thinker(("41", "42", "42"), words=12).engine(apart)
    run = make_run(engine, NAME, {"n": 1, "b0": 16})  # 14 tokens of thoughts, and "So"
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert all(call.purpose != "force" for call in engine.scripted.calls)
    assert_thoughts_are_open(engine)


def seen(model: str, *lengths: int) -> Shared:
    shared = Shared(Equivalence())
    for length in lengths:
        shared.lengths.add(("single", "actor", SOLVE, model), length)
    return shared


@pytest.mark.anyio
async def test_half_of_the_usual_length_is_the_first_budget() -> None:
    engine = Thinker(("42",)).engine("first")
    run = make_run(engine, NAME, shared=seen("Qwen3-8B", *[40] * LEAST, 1000, 1000))
    await execute(run)
    opened = [call for call in engine.scripted.calls if call.purpose == SOLVE]
    assert {call.sampling.max_tokens for call in opened} == {20}
    assert notes(run)["b0"].startswith("20 tokens")


@pytest.mark.anyio
@pytest.mark.parametrize("sampling", [Sampling(seed=1), Sampling()])
async def test_nothing_is_learned_for_a_seed_nor_from_parts(sampling: Sampling) -> None:
    engine = Thinker(("42",)).engine("first")
    shared = seen("Qwen3-8B", *[1000] * (LEAST if sampling.seed else LEAST - 1))
    run = make_run(
        engine, NAME, {"b0": 16} if not sampling.seed else {}, shared=shared, sampling=sampling
    )
    await execute(run)
    if sampling.seed:
        assert "no usual length" in notes(run)["b0"]
    else:
        assert run.usual_length() is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("model", "lacking", "why"),
    [
        ("Qwen3-8B", "tokenize", "tells no tokens"),
        ("gpt-oss-20b", None, "message of their own"),
    ],
)
async def test_thoughts_that_cannot_be_reopened_leave_a_plain_vote(
    model: str, lacking: Any, why: str
) -> None:
    engine = Thinker(("42",)).engine(
        "first", model, lacking=frozenset({lacking} if lacking else ())
    )
    run = make_run(engine, NAME)
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert {call.purpose for call in engine.scripted.calls} == {SOLVE}
    assert why in notes(run)["not deepened"]


@pytest.mark.anyio
@pytest.mark.parametrize("apart", ["nowhere", "first", "everywhere"])
async def test_thoughts_without_a_conclusion_are_no_answer(apart: Apart) -> None:
    def script(call: Call, _index: int) -> Reply:
        held = scripted.held_by(call)
        return Reply(f"{held}6}} or" if call.purpose == "force" else "<think> It is \\boxed{3}. Or")

    scripted = ScriptedEngine(script, model="Qwen3-8B")
    run = make_run(Parsing(scripted, apart), NAME, {"n": 1})
    outcome = await execute(run)
    assert outcome.candidate.answer == "6"


# -- forced answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "reply", "answer"),
    [
        (MATH, "42}. And", "42}."),
        (MATH, "\\frac{1}{2}}$", "\\frac{1}{2}}."),
        (MATH, "\\}, 4}", "\\}, 4}."),
        (MATH, "42", None),
        (MATH, "\x00\ufffd}", None),
        (MATH, "}", None),
        (CHOICE, " B. Since", " B"),
        (CHOICE, " (c)", " C"),
        (CHOICE, " D", None),
        (CHOICE, " Blue", None),
        (CHOICE, "", None),
    ],
)
def test_only_a_whole_answer_is_read_from_a_forced_reply(
    task: Task, reply: str, answer: str | None
) -> None:
    assert short_answer(task, reply) == answer


@pytest.mark.anyio
async def test_a_choice_is_forced_as_a_letter() -> None:
    def script(call: Call, _index: int) -> Reply:
        return Reply(" B, I think" if call.purpose == "force" else "I cannot say.")

    engine = ScriptedEngine(script)
    outcome = await execute(make_run(engine, NAME, {"n": 2}, task=CHOICE))
    assert outcome.candidate.answer == "B"
    assert outcome.candidate.text == "I cannot say.\n\nAnswer: B"


# -- weights -------------------------------------------------------------------------------------------


def weighed(call: Call, index: int) -> Reply:
    sure = index == 1
    labels = dict.fromkeys(call.labels, 0.5)
    if call.labels:
        said = call.messages[-2].text
        right = "A" if "(A) right" in call.messages[-1].text else "B"
        labels = {"A": 0.05, "B": 0.05} | {right: 0.95} if "42" in said else labels
    return Reply(
        f"So \\boxed{{{42 if sure else 41}}}.", confidence=20.0 if sure else 1.0, labels=labels
    )


@pytest.mark.anyio
async def test_chains_may_weigh_by_the_confidence_of_their_tokens() -> None:
    engine = ScriptedEngine(weighed)
    run = make_run(engine, NAME, {"n": 3, "weight": "confidence", "width": 1, "group": 2})
    outcome = await execute(run)
    assert outcome.candidate.score_kind == "weighted_vote_share"
    assert outcome.candidate.answer == "42"
    assert all(call.logprobs for call in engine.calls)


@pytest.mark.anyio
@pytest.mark.parametrize("always", [True, False])
async def test_a_judge_that_is_not_calibrated_is_asked_only_where_it_is_wished(
    always: bool,
) -> None:
    engine = ScriptedEngine(weighed)
    params = {"n": 3, "weight": "p_true", "always_weigh": always, "width": 1}
    run = make_run(engine, NAME, params)
    await execute(run)
    assert bool([call for call in engine.calls if call.labels]) == always
    assert "not calibrated" in notes(run)["judge"]


@pytest.mark.anyio
async def test_a_judge_is_not_asked_where_all_chains_agree() -> None:
    engine = ScriptedEngine(segments(("42", "42")))
    params = {"weight": "p_true", "always_weigh": True}
    await execute(make_run(engine, NAME, params))
    assert not [call for call in engine.calls if call.labels]


@pytest.mark.anyio
async def test_a_budget_that_keeps_chains_from_going_on_is_named_as_what_ended_it() -> None:
    engine = ScriptedEngine(segments(("41", "42"), ("42", "42")))
    run = make_run(engine, NAME, {"n": 2, "width": 1}, max_calls=3)
    outcome = await execute(run)
    assert outcome.stop_reason == "budget_calls"
    assert outcome.candidate.answer == "42"
    assert "budget" in notes(run)["not deepened"]
    assert_books_are_closed(run, engine)


# -- params --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"b0": 8}, ("b0", "16")),
        ({"gamma": 0.5}, ("gamma", "1")),
        ({"gamma": 1}, ("gamma", "1.1 to 8", "segment")),
        ({"reading": "total"}, ("reading", "cumulative", "segment")),
        ({"max_triggers": 9}, ("max_triggers", "8")),
        ({"max_triggers": 0, "b0": 64}, ("b0", "1 to 8")),
        ({"max_triggers": 1, "agree": 3}, ("agree", "at most 2")),
        ({"agree": 4}, ("agree", "at most 3")),
        ({"temperature": 0}, ("temperature", "above 0")),
        ({"weight": "reward"}, ("weight", "none", "confidence", "p_true")),
        ({"always_weigh": True}, ("always_weigh", "p_true")),
        ({"group": 8}, ("group", "confidence")),
        ({"triggers": 2}, ("triggers",)),
    ],
)
def test_bad_params_name_the_field_and_what_is_allowed(
    params: Mapping[str, Any], says: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        IterativeDeepening.model_validate(params)
    assert all(word in str(caught.value) for word in says), str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("params", "task", "about", "why"),
    [
        ({"gamma": 3}, MATH, "gamma, reading", "without effect"),
        ({"b0": 64}, OPEN, "not deepened", "open question"),
    ],
)
async def test_params_without_effect_are_noted(
    params: Mapping[str, Any], task: Task, about: str, why: str
) -> None:
    run = make_run(ScriptedEngine(says("So \\boxed{42}.")), NAME, params, task=task)
    await execute(run)
    assert why in notes(run)[about]


def test_only_what_can_be_reopened_is_said_to_be() -> None:
    assert profile_of("Qwen3-8B").reopens
    assert not profile_of("gpt-oss-120b").reopens
    assert tokens_of("a b") == ["a", " b"]
