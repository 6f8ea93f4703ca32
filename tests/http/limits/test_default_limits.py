"""Caps, budgets and deadlines of requests that set none."""

from __future__ import annotations

from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.testing.support import constant_reply
from tests.http.serving import Json, Served, serving

NUMBERS = " ".join(map(str, range(90_000)))
VOTE = {"name": "self_consistency", "params": {"n": 6, "stop": "none"}}


def served_as(model: str, text: str = "It is 42.", **more: Any) -> Any:
    engine: Json = {name: more.pop(name) for name in ("window", "per_token") if name in more}
    scripted = ScriptedEngine(constant_reply(text), model=model, tokens_per_delta=500, **engine)
    return serving(scripted, model=model, **more)


def caps(served: Served) -> set[int | None]:
    """Return the token limits of the engine's calls."""
    return {call.sampling.max_tokens for call in served.engine.calls}


@pytest.mark.parametrize(("model", "cap"), [("Qwen3-8B", 32_768), ("scripted", 4_096)])
def test_the_cap_and_the_budget_depend_on_the_model(model: str, cap: int) -> None:
    with served_as(model, window=131_072) as served:
        budget = served.solve(strategy=VOTE).json()["budget"]
        assert caps(served) == {cap}
    assert budget["max_tokens"]["limit"] == 6 * cap
    assert budget["deadline_ms"]["limit"] == 600_000


def test_a_reasoning_model_finishes_a_long_chain() -> None:
    text = " ".join(map(str, range(20_000))) + " The answer is 42."
    with served_as("Qwen3-8B", text, window=40_960) as served:
        document = served.solve().json()
    assert (document["answer"], document["finish_reason"]) == ("42", "stop")


def test_settings_and_requests_win_over_the_profile() -> None:
    with served_as("Qwen3-8B", max_tokens_per_call=50, window=50_000) as served:
        served.solve()
        assert caps(served) == {50}
        served.engine.calls.clear()
        limit = served.solve(sampling={"max_tokens": 99_999}).json()["budget"]["max_tokens"]
        assert limit["limit"] == 50_000  # the context window
        [fitted] = caps(served)
        assert fitted is not None
        assert 49_000 < fitted < 50_000


def test_the_cap_is_at_most_the_operators_maximum() -> None:
    with served_as("Qwen3-8B", max_sampling_tokens=300) as served:
        served.solve()
        assert caps(served) == {300}


def test_a_role_has_the_cap_of_its_table() -> None:
    roles = {"actor": {"max_tokens": 123}, "critic": {"max_tokens": 45}}
    with served_as("scripted", roles=roles) as served:
        served.solve(strategy={"name": "self_refine", "params": {"feedback": "review"}})
        assert {(call.role, call.sampling.max_tokens) for call in served.engine.calls} >= {
            ("actor", 123),
            ("critic", 45),
        }


@pytest.mark.parametrize("window", [64, 500, 4_096, 40_000])
def test_the_cap_leaves_room_for_the_prompt_in_the_context_window(window: int) -> None:
    with served_as("Qwen3-8B", NUMBERS, window=window) as served:
        document = served.solve(strategy="single").json()
        [call] = served.engine.calls
    prompt = document["usage"]["actor"]["prompt"]
    assert call.sampling.max_tokens == min(32_768, window - prompt)
    assert (document["finish_reason"], document["stop_reason"]) == ("length", "finished")
    assert document["budget"]["max_tokens"]["limit"] == max(16_384, min(window, 32_768))


def test_the_default_deadline_depends_on_the_measured_speed() -> None:
    with served_as("scripted", "word number " * 100, per_token=0.1, max_deadline_ms=10**9) as slow:
        first = slow.solve().json()["budget"]["deadline_ms"]["limit"]
        second = slow.solve().json()
        fixed = slow.solve(budget={"deadline_ms": 5_000}).json()
    assert first == 10**9
    rate = 200 / 0.1
    assert second["budget"]["deadline_ms"]["limit"] == pytest.approx(
        max(120_000, 1000 * 4_096 / rate), rel=0.2
    )
    assert fixed["budget"]["deadline_ms"]["limit"] == 5_000


def test_the_operators_maximum_is_noted_if_it_reduces_the_default_deadline() -> None:
    with served_as("scripted", "word " * 40, per_token=0.1, max_deadline_ms=1_000) as served:
        assert "deadline_ms" not in served.solve().json()["notes"]
        noted = served.solve().json()
        own = served.solve(budget={"deadline_ms": 900}).json()
    assert noted["budget"]["deadline_ms"]["limit"] == 1_000
    assert noted["notes"]["deadline_ms"].startswith("1000, the operator's maximum")
    assert "deadline_ms" not in own["notes"]


def test_the_note_on_a_maximum_that_ends_the_run_does_not_advise_to_exceed_it() -> None:
    slow = ScriptedEngine(constant_reply("one two three " * 300), per_token=0.01)
    with serving(slow, max_deadline_ms=1_000) as served:
        first, second = (served.solve().json() for _ in range(2))
    assert first["stop_reason"] == second["stop_reason"] == "deadline"
    assert second["notes"]["deadline_ms"] == (
        "1000, the operator's maximum; the default for this run would be 120000; it ended the run"
    )


def test_a_default_deadline_that_ends_the_run_is_noted() -> None:
    slow = ScriptedEngine(constant_reply("one two three " * 300), per_token=0.01)
    with serving(slow, default_deadline_ms=400) as served:
        document = served.solve().json()
        requested = served.solve(budget={"deadline_ms": 300}).json()
    assert document["stop_reason"] == requested["stop_reason"] == "deadline"
    assert document["notes"]["deadline_ms"] == (
        "the default of 400 ms ended the run; set budget.deadline_ms"
    )
    assert "deadline_ms" not in requested["notes"]
