"""Several samples keep the strategy's own temperature if the request has a temperature of 0."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.registry import Params
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate
from tests.http.serving import Json, Served, serving

CHAT = "/v1/chat/completions"
TURN: Json = {"role": "user", "content": "What is 6 times 7?"}
SEVERAL = {name: params for name, params in STRATEGIES.items() if params.defaults.chains > 1}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


def answers(served: Served, strategy: str, **params: Any) -> Iterator[tuple[Json, list[float]]]:
    """Yield the report, and the temperatures of the drafts, of a request at 0 on each route."""
    choice = {"name": strategy, "params": params}
    solve = {"messages": [TURN], "strategy": choice, "sampling": {"temperature": 0}}
    chat = {"messages": [TURN], "temperature": 0, "secondpass": {"strategy": choice}}
    for path, body in (("/solve", solve), (CHAT, chat | {"model": "scripted"})):
        before = len(served.engine.calls)
        reply = served.post(path, body)
        assert reply.status_code == 200, reply.text
        document = reply.json()
        calls = served.engine.calls[before:]
        drafts = [call.sampling.temperature for call in calls if call.purpose == SOLVE]
        yield document.get("secondpass", document), [t for t in drafts if t is not None]


@pytest.mark.parametrize("name", SEVERAL)
def test_several_samples_have_the_strategys_temperature_and_a_note(
    served: Served, name: str
) -> None:
    for report, temperatures in answers(served, name):
        assert temperatures
        assert set(temperatures) == {0.7}
        assert report["notes"]["temperature"].startswith("0.7")
        assert "0 has no effect" in report["notes"]["temperature"]


@given(
    name=st.sampled_from(sorted(SEVERAL)),
    n=st.integers(2, 6),
    temperature=st.none() | st.sampled_from([0.1, 1.0, 2.0]),
)
@settings(max_examples=30, deadline=None)
def test_several_samples_are_never_drawn_at_0(
    served: Served, name: str, n: int, temperature: float | None
) -> None:
    params = {"n": n} | ({} if temperature is None else {"temperature": temperature})
    for _, temperatures in answers(served, name, **params):
        assert set(temperatures) == {temperature or 0.7}


def test_a_single_completion_keeps_the_temperature_of_0(served: Served) -> None:
    for report, temperatures in answers(served, "single"):
        assert temperatures == [0]
        assert "temperature" not in report["notes"]


@pytest.mark.parametrize("name", ["self_consistency", "self_refine", "critic_retry"])
def test_a_param_of_0_with_several_samples_is_still_an_error(served: Served, name: str) -> None:
    choice = {"name": name, "params": {"n": 2, "temperature": 0}}
    reply = served.solve(strategy=choice)
    assert (reply.status_code, reply.json()["field"]) == (422, "strategy.params.temperature")


class Pair(Params):
    """Params without a temperature."""

    n: int = Field(default=2, ge=1)


async def draw_pair(run: Run, params: Pair) -> Candidate:
    """Sample without a temperature, then ask once more."""
    async with run.sample(SOLVE, params.n) as drafts:
        candidates = [run.candidate(draft) async for draft in drafts]
    await run.ask(SOLVE, index=9)
    return candidates[0]


@pytest.mark.parametrize(
    ("model", "expected"), [("scripted", 0.7), ("gemma-3-4b", 1.0), ("Qwen/Qwen3-8B", 0.6)]
)
def test_samples_of_a_strategy_without_a_temperature_have_that_of_the_models_profile(
    monkeypatch: pytest.MonkeyPatch, model: str, expected: float
) -> None:
    strategy = replace(STRATEGIES["single"], name="pair", params=Pair, body=draw_pair)
    monkeypatch.setattr("secondpass.service.http.resolve.STRATEGIES", {"pair": strategy})
    with serving(ScriptedEngine(model=model), model=model) as served:
        sampling: Json = {"temperature": 0}
        pair = served.solve(strategy="pair", sampling=sampling)
        assert pair.status_code == 200, pair.text
        temperatures = [call.sampling.temperature for call in served.engine.calls]
        assert temperatures == [expected, expected, 0]
        note = f"{expected:g} for several samples, which would be equal at 0"
        assert pair.json()["notes"]["temperature"] == note
        one = {"name": "pair", "params": {"n": 1}}
        assert "temperature" not in served.solve(strategy=one, sampling=sampling).json()["notes"]
        assert [call.sampling.temperature for call in served.engine.calls[3:]] == [0, 0]


def test_a_width_or_a_window_above_n_is_noted(served: Served) -> None:
    def notes(name: str, **params: Any) -> Json:
        reply = served.solve(strategy={"name": name, "params": params})
        found: Json = reply.json()["notes"]
        return found

    assert notes("self_prm", width=9)["width"] == "9 has the effect of 4, the number of drafts"
    assert "width" not in notes("self_prm", width=4)
    assert "width" not in notes("self_refine")
    vote = notes("self_consistency", stop="esc", window=50)
    assert vote["window"] == "no early stop: 50 is above n = 8"
    assert "window" not in notes("self_consistency", stop="esc", window=4)
