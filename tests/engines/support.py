"""Support for engine tests: a started HTTP engine, and calls whose deltas are collected in a list."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager

import anyio

from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.strategies.api.engine import Call, Delta, Engine
from secondpass.strategies.api.values import Message
from tests.engines.upstream import Upstream

KEY = "sk-a-secret"
CALL = Call(role="actor", purpose="solve", messages=(Message(role="user", content="Hi"),))


@asynccontextmanager
async def started(
    upstream: Upstream,
    model: str | None = None,
    *,
    key: str | None = KEY,
    idle_timeout: float = 10,
) -> AsyncGenerator[HttpEngine]:
    engine = HttpEngine("e", upstream.url, model, key=key, idle_timeout=idle_timeout)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()


async def run(engine: Engine, call: Call = CALL) -> list[Delta]:
    async with aclosing(engine.stream(call)) as deltas:
        return [delta async for delta in deltas]


def is_ready(engine: Engine) -> bool:
    return engine.ready  # a function, because mypy narrows the type of a property


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def ids(deltas: Sequence[Delta]) -> tuple[int, ...]:
    return tuple(token for delta in deltas for token in delta.token_ids)


async def until_idle(upstream: Upstream, seconds: float) -> None:
    with anyio.fail_after(seconds):
        while upstream.running:
            await anyio.sleep(0.005)
