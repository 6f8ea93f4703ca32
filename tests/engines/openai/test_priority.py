"""Priorities on a server that does not schedule by priority: vLLM 0.32 ignores them."""

from dataclasses import replace

import pytest

from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.engines.openai.routing import RoutingHeaders
from secondpass.strategies.api.values import Sampling
from tests.engines.support import CALL, run, text
from tools.local_vllm import VllmServer

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("priority", [0, 1])
async def test_a_server_without_priority_scheduling_accepts_a_priority(
    vllm_server: VllmServer, priority: int
) -> None:
    routing = RoutingHeaders(priority=priority)
    engine = HttpEngine("big", vllm_server.base_url, vllm_server.model_name, routing=routing)
    try:
        await engine.start()
        assert engine.ready, engine.why_not_ready
        call = replace(CALL, sampling=Sampling(max_tokens=4))
        assert text(await run(engine, call))
    finally:
        await engine.aclose()
