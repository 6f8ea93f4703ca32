"""Usage and budget in replies: engines that ignore their cap, and engines that report no counts."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.http.response_models import Answer
from secondpass.strategies.api.engine import Call, Delta
from secondpass.testing.support import constant_reply
from tests.http.serving import serving

ANSWER = "The answer is \\boxed{42}. "
LONG = "word " * 39 + ANSWER
TOKENS = 39 + 5


@dataclass
class Uncapped(ScriptedEngine):
    """An engine that ignores `max_tokens`. Without `token_counts` it reports its usage at the end."""

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        sampling = call.sampling.model_copy(update={"max_tokens": None})
        async with aclosing(super().stream(replace(call, sampling=sampling))) as deltas:
            async for delta in deltas:
                yield delta


def uncounted(text: str = LONG, **more: Any) -> Uncapped:
    return Uncapped(constant_reply(text), lacking=frozenset({"token_counts"}), **more)


def test_tokens_reported_beyond_the_limit_are_spent_and_end_the_run() -> None:
    with serving(uncounted()) as served:
        reply = served.solve(strategy="single", budget={"max_tokens": 30}, trace="summary")
        metrics = served.get("/metrics").text
    document = reply.json()
    Answer.model_validate(document)
    assert document["answer"] == "42"
    assert document["stop_reason"] == "budget_tokens"
    assert document["budget"]["max_tokens"] == {"limit": 30, "spent": TOKENS, "overrun": 14}
    assert document["usage"]["actor"]["completion"] == TOKENS
    (record,) = document["trace"]
    assert (record["end"], record["overrun"], record["withheld"]) == ("finished", 14, 0)
    assert 'secondpass_engine_overruns_total{role="actor"} 1.0' in metrics


def test_no_further_call_starts_after_an_overrun() -> None:
    with serving(uncounted()) as served:
        strategy = {"name": "self_consistency", "params": {"n": 5, "stop": "none", "width": 1}}
        budget = {"max_tokens": 80}
        document = served.solve(
            strategy=strategy, budget=budget, sampling={"max_tokens": 30}
        ).json()
        made = len(served.engine.calls)
    assert made == 2
    assert document["answer"] == "42"
    assert document["stop_reason"] == "budget_tokens"
    assert document["budget"]["max_tokens"] == {"limit": 80, "spent": 2 * TOKENS, "overrun": 8}


def test_a_counting_stream_is_closed_at_its_first_token_beyond_the_limit() -> None:
    with serving(Uncapped(constant_reply(ANSWER + "word " * 500))) as served:
        reply = served.solve(strategy="single", budget={"max_tokens": 30}).json()
        delivered = served.engine.delivered
    assert delivered == 31
    assert reply["budget"]["max_tokens"] == {"limit": 30, "spent": 31, "overrun": 1}
    assert (reply["answer"], reply["stop_reason"]) == ("42", "budget_tokens")


def test_tokens_beyond_the_cap_are_spent_without_an_overrun_while_the_limit_has_room() -> None:
    with serving(uncounted()) as served:
        reply = served.solve(
            strategy="single", budget={"max_tokens": 300}, sampling={"max_tokens": 10}
        ).json()
    assert reply["stop_reason"] == "finished"
    assert reply["budget"]["max_tokens"] == {"limit": 300, "spent": TOKENS}


@pytest.mark.parametrize("stop", ["adaptive", "esc", "lead"])
def test_an_early_consensus_spends_what_was_delivered_and_withholds_the_rest(stop: str) -> None:
    """Four of five drafts are short and decide the vote; the last one is cancelled."""

    def script(_: Call, index: int) -> Reply:
        return Reply(ANSWER if index < 4 else LONG * 50)

    engine = ScriptedEngine(script, lacking=frozenset({"token_counts"}), per_token=0.002)
    with serving(engine) as served:
        params = {"n": 5, "width": 5, "stop": stop} | ({"window": 4} if stop == "esc" else {})
        reply = served.solve(
            strategy={"name": "self_consistency", "params": params}, budget={"max_tokens": 16_384}
        ).json()
        delivered = served.engine.delivered
    assert reply["stop_reason"] == "consensus"
    budget, usage = reply["budget"]["max_tokens"], reply["usage"]["actor"]
    assert usage["estimated"]
    assert usage["completion"] == budget["spent"]
    assert delivered / 2 <= budget["spent"] <= delivered * 1.5 < 100
    assert 2000 < budget["withheld"] <= 5 * 2048
    assert budget["spent"] + budget["withheld"] <= 16_384
    assert usage["wasted"] <= usage["completion"]


def test_spent_and_withheld_tokens_are_at_most_what_was_requested() -> None:
    """The draft that a consensus cancels could have generated 100 tokens."""
    engine = ScriptedEngine(
        lambda _, index: Reply(ANSWER if index < 3 else LONG * 50),
        lacking=frozenset({"token_counts"}),
        per_token=0.002,
    )
    with serving(engine) as served:
        reply = served.solve(
            strategy={"name": "self_consistency", "params": {"n": 4, "width": 4, "stop": "lead"}},
            budget={"max_tokens": 500},
            sampling={"max_tokens": 100},
        ).json()
    assert reply["stop_reason"] == "consensus"
    budget = reply["budget"]["max_tokens"]
    assert 0 < budget["withheld"] < 100
    assert budget["spent"] + budget["withheld"] <= 4 * 100


@dataclass
class Counting(ScriptedEngine):
    """An engine that notes how many prompts it was requested to count."""

    counted: int = 0

    async def count_prompt(self, call: Call) -> int:
        self.counted += 1
        return await super().count_prompt(call)


@pytest.mark.parametrize(("budget", "counts"), [({}, 0), ({"max_prompt_tokens": 100_000}, 1)])
def test_a_prompt_is_counted_before_its_call_if_the_request_limits_prompt_tokens(
    budget: dict[str, int], counts: int
) -> None:
    engine = Counting(constant_reply(ANSWER))
    with serving(engine) as served:
        assert served.solve(strategy="single", budget=budget).status_code == 200
    assert engine.counted - len(engine.calls) == counts  # the engine itself counts once per call
