"""A priority is for servers that schedule by one: vLLM refuses others, and the engine says so."""

import pytest

from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.engines.openai.routing import RoutingHeaders
from tools.local_vllm import VllmServer

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("priority", [None, 0, 1])
async def test_an_engine_is_ready_unless_its_server_refuses_its_priority(
    vllm_server: VllmServer, priority: int | None
) -> None:
    routing = RoutingHeaders(priority=priority)
    engine = HttpEngine("big", vllm_server.base_url, vllm_server.model_name, routing=routing)
    try:
        await engine.start()
        assert engine.ready == (priority != 1)
        assert engine.ready or "priority" in str(engine.why_not_ready)
    finally:
        await engine.aclose()
