"""Support for the engine contract tests: engines, calls, and helpers that read deltas."""

import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import anyio.to_thread

from secondpass.service.engines.common.codec import Codec
from secondpass.service.engines.common.prefix_ids import prefix_ids
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine, arithmetic
from secondpass.strategies.api.engine import Call, Delta, Engine
from secondpass.strategies.api.values import Message, PrefixPart, Sampling, Usage
from tests.engines.in_process import requests_in_core, tokens_from_core
from tools.local_vllm import VllmServer

HTTP = ("http", "asyncio")
IN_PROCESS = ("in_process", "asyncio")
"""Connection to vLLM, and the anyio backend that it needs."""


def ask(text: str, **sampling: object) -> Call:
    return Call(
        role="actor",
        purpose="solve",
        messages=(Message(role="user", content=text),),
        sampling=Sampling.model_validate({"temperature": 0, "max_tokens": 16} | sampling),
    )


STORY = ask("Tell me how to make tea, step by step.")
LONG_LIST = {"type": "array", "items": {"type": "integer"}, "minItems": 2000}
# The schema forces any model to generate up to its token limit. Without it, a small model stops within a second.
ENDLESS = replace(
    ask("Count from one to ten thousand.", temperature=1, max_tokens=1500),
    schema=json.dumps(LONG_LIST),
)
DRAFTS = [
    STORY,
    ask("What is 12 + 30? Work it out step by step."),
    ask("Why is the sky blue?"),
    ask("Write a short poem about two foxes."),
]


@dataclass(frozen=True)
class Subject:
    """An engine under test, with its own counts of requests in progress and of generated tokens."""

    engine: Engine
    count_running: Callable[[], Awaitable[int]]
    count_generated: Callable[[], Awaitable[int]]


def counting(call: Call, index: int) -> Reply:
    """The default script, except for `ENDLESS`, whose reply is a long list."""
    if call.schema == ENDLESS.schema:
        return Reply(", ".join(map(str, range(2000))))
    return arithmetic(call, index)


def scripted_subject() -> Subject:
    engine = ScriptedEngine(counting, window=2048, per_token=0.005)

    async def count() -> int:
        return len(engine.running)

    async def count_generated() -> int:
        return engine.delivered

    return Subject(engine, count, count_generated)


def in_process_subject(engine: Engine) -> Subject:
    async def count() -> int:
        return requests_in_core()

    async def count_generated() -> int:
        return tokens_from_core()

    return Subject(engine, count, count_generated)


@asynccontextmanager
async def http_subject(server: VllmServer) -> AsyncIterator[Subject]:
    async def count() -> int:
        return await anyio.to_thread.run_sync(running_requests, server)

    async def count_generated() -> int:
        return await anyio.to_thread.run_sync(generated_tokens, server)

    engine = HttpEngine("vllm", server.base_url)
    await engine.start()
    assert engine.why_not_ready is None
    try:
        yield Subject(engine, count, count_generated)
    finally:
        await engine.aclose()


def running_requests(server: VllmServer) -> int:
    """Return the number of running and waiting requests from the server's metrics."""
    return _metric(server, "vllm:num_requests_running", "vllm:num_requests_waiting{")


def generated_tokens(server: VllmServer) -> int:
    """Return the number of generated tokens from the server's metrics."""
    return _metric(server, "vllm:generation_tokens_total")


def _metric(server: VllmServer, *names: str) -> int:
    """Return the sum of the samples whose lines start with one of the names."""
    with urllib.request.urlopen(f"{server.root_url}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(names))


async def detokenized(engine: Engine, prefix: Sequence[PrefixPart]) -> str:
    """Return the text of `prefix` by the engine's tokenizer; each text in it is tokenized first."""
    if isinstance(engine, ScriptedEngine):
        return engine.prefix_text(replace(STORY, prefix=tuple(prefix)))
    codec = _codec(engine)
    call = replace(STORY, prefix=tuple(prefix))
    return await codec.decode(await prefix_ids(call, codec), call)


def _codec(engine: Any) -> Codec:
    if isinstance(engine, HttpEngine):
        assert engine._server
        assert engine._server.tokenizer
        return engine._server.tokenizer
    renderer: Codec = engine._renderer
    return renderer


def stop_inside_token(deltas: Sequence[Delta]) -> tuple[str, int]:
    """Return a stop string that ends before the last character of a token, and the tokens up to it."""
    whole, end, tokens = text(deltas), 0, 0
    for delta in deltas:
        end, tokens = end + len(delta.text), tokens + len(delta.token_ids)
        stop = whole[max(0, end - 7) : end - 1]
        is_inside = len(delta.token_ids) == 1 and len(delta.text.strip()) > 1
        if tokens > 3 and is_inside and whole.find(stop) + len(stop) == end - 1:
            return stop, tokens
    raise AssertionError(f"no suitable token in {whole!r}")


def text(deltas: Sequence[Delta], index: int = 0) -> str:
    return "".join(delta.text for delta in deltas if delta.index == index)


def usage(deltas: Sequence[Delta]) -> Usage:
    reported = [delta.usage for delta in deltas if delta.usage][-1]
    assert reported.prompt is not None
    assert reported.completion is not None
    return Usage(reported.prompt, reported.cached, reported.completion)


def finish_reasons(deltas: Sequence[Delta]) -> dict[int, str]:
    return {delta.index: delta.finish_reason for delta in deltas if delta.finish_reason}


async def becomes(subject: Subject, running: int) -> bool:
    """Wait for `running` requests in the engine; return whether it happened within six seconds.

    On every engine `ENDLESS` takes longer than that unless it is aborted.
    """
    with anyio.move_on_after(6):
        while await subject.count_running() != running:
            await anyio.sleep(0.01)
        return True
    return False
