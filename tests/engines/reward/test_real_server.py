"""The reward engine with a real vLLM pooling server."""

import math
import re
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import pytest

from secondpass.service.engines.reward.engine import PoolingEngine
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CallRejected
from secondpass.strategies.api.values import Message, ReportedUsage
from secondpass.testing.support import call_records, make_run, upstream
from tests.engines.support import run
from tools.local_vllm import VllmServer, serve_vllm

if TYPE_CHECKING:
    from tests.engines.reward_model import RewardModel
from tests.engines.reward.support import ANSWER, CALL, QUESTION, score

pytestmark = pytest.mark.anyio
CONVERSATIONS = [
    (QUESTION, ANSWER),
    (QUESTION, Message(role="assistant", content="It is 41, or perhaps ☃.")),
    (Message(role="system", content="Be terse."), QUESTION, ANSWER),
    (QUESTION, ANSWER, Message(role="user", content="Sure?"), ANSWER),
    (QUESTION, Message(role="assistant", content="word " * 300)),
]


def call_for(text: str) -> Call:
    return replace(CALL, messages=(QUESTION, Message(role="assistant", content=text)))


@dataclass(frozen=True)
class Server:
    """A vLLM pooling server and the model that it serves."""

    server: VllmServer
    model: "RewardModel"

    def running(self) -> float:
        """Return the number of running requests."""
        with urllib.request.urlopen(f"{self.server.root_url}/metrics") as reply:
            found = re.findall(
                r"^vllm:num_requests_running\S* (\S+)$", reply.read().decode(), re.MULTILINE
            )
        return sum(map(float, found))

    @asynccontextmanager
    async def engine(self, model: str | None = None) -> AsyncIterator[PoolingEngine]:
        engine = PoolingEngine("rm", self.server.base_url, model)
        try:
            await engine.start()
            yield engine
        finally:
            await engine.aclose()


def serve(factory: pytest.TempPathFactory, labels: int, *flags: str) -> Iterator[Server]:
    from tests.engines.reward_model import make_reward_model  # noqa: PLC0415 - torch is heavy

    model = make_reward_model(factory.mktemp("models") / f"reward-{labels}", labels)
    flags = ("--runner", "pooling", "--dtype", "float32", "--max-model-len", "512", *flags)
    with serve_vllm(model.folder, extra_args=flags) as server:
        yield Server(server, model)


@pytest.fixture(scope="session")
def one_label(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serve(tmp_path_factory, 1)


@pytest.fixture(scope="session")
def two_labels_a_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serve(tmp_path_factory, 2, "--pooler-config", '{"task": "token_classify"}')


@pytest.mark.vllm
@pytest.mark.parametrize("messages", CONVERSATIONS)
async def test_a_score_equals_the_models_logit(
    one_label: Server, messages: tuple[Message, ...]
) -> None:
    async with one_label.engine() as engine:
        assert engine.ready, engine.why_not_ready
        delta = await score(engine, replace(CALL, messages=messages))
        (expected,) = one_label.model.logits(messages)
        prompt = one_label.model.render(messages)
        assert delta.reward == pytest.approx(expected, abs=1e-2)
        assert delta.usage == ReportedUsage(prompt=len(prompt), completion=0)
        assert await engine.count_prompt(replace(CALL, messages=messages)) == len(prompt)


@pytest.mark.vllm
async def test_a_server_reports_its_capabilities_and_rejects_a_prompt_that_is_too_long(
    one_label: Server,
) -> None:
    async with one_label.engine() as engine:
        assert engine.model == "reward-1"
        assert engine.capabilities == {"reward", "tokenize"}
        assert engine.context_window == 512
        with pytest.raises(CallRejected, match="context length is 512"):
            await run(engine, call_for("word " * 600))
        await engine.start()
        assert engine.ready
    async with one_label.engine("another") as engine:
        expected = (
            "the server serves reward-1, not 'another': set the engine's model to one of them"
        )
        assert engine.why_not_ready == expected


@pytest.mark.vllm
async def test_concurrent_calls_return_their_own_scores(one_label: Server) -> None:
    async with one_label.engine() as engine:
        texts = [f"It is {number}." for number in range(24)]
        found: dict[str, float | None] = {}

        async def one(text: str) -> None:
            found[text] = (await score(engine, call_for(text))).reward

        async with anyio.create_task_group() as group:
            for text in texts:
                group.start_soon(one, text)
    for text in texts:
        (expected,) = one_label.model.logits(call_for(text).messages)
        assert found[text] == pytest.approx(expected, abs=1e-2)


@pytest.mark.vllm
async def test_a_run_is_charged_the_exact_prompt_tokens_of_a_score(one_label: Server) -> None:
    async with one_label.engine() as engine:
        live = make_run(upstream(engine, attempts=3, places=4), max_tokens=1)
        reward = await live.score("It is 42.", messages=(QUESTION,))
    messages = (QUESTION, ANSWER)
    assert reward == pytest.approx(one_label.model.logits(messages)[0], abs=1e-2)
    assert live.budget.spent["prompt_tokens"] == len(one_label.model.render(messages))
    assert live.budget.spent["tokens"] == live.budget.spent["samples"] == 0
    assert live.budget.spent["calls"] == 1
    assert not call_records(live)[0].is_estimated


@pytest.mark.vllm
async def test_cancelled_calls_leave_no_request_in_the_server(one_label: Server) -> None:
    async with one_label.engine() as engine:
        call = call_for("word " * 300)
        async with anyio.create_task_group() as group:
            for _ in range(32):
                group.start_soon(run, engine, call)
            await anyio.sleep(0.02)
            group.cancel_scope.cancel()
        with anyio.fail_after(5):
            while await anyio.to_thread.run_sync(one_label.running):
                await anyio.sleep(0.05)
        assert (await score(engine)).reward is not None


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize("messages", CONVERSATIONS)
async def test_the_second_of_two_labels_counts_at_the_last_token(
    two_labels_a_token: Server, messages: tuple[Message, ...]
) -> None:
    async with two_labels_a_token.engine() as engine:
        assert engine.ready, engine.why_not_ready
        delta = await score(engine, replace(CALL, messages=messages))
    bad, good = two_labels_a_token.model.logits(messages)
    assert delta.reward == pytest.approx(1 / (1 + math.exp(bad - good)), abs=1e-2)
