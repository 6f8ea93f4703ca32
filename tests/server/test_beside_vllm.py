"""Access to the routes of a fake vLLM application, in the service and with the plug-in."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from secondpass.service.config.api_keys import Tenants
from secondpass.service.config.settings import Settings
from secondpass.service.server.app import InProcessEngines, create_app

pytestmark = pytest.mark.vllm  # the plug-in imports vLLM

KEY = {"authorization": "Bearer sesame"}
TENANTS = Tenants({hashlib.sha256(b"sesame").hexdigest(): "ali"})
SETTINGS = Settings(engine="scripted")


def fake_vllm() -> FastAPI:
    """Create a fake of vLLM's application."""
    app = FastAPI()

    @app.get("/health")
    async def health() -> str:
        return "well"

    @app.post("/v1/completions")
    async def completions() -> str:
        return "generated"

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("heard")
        await socket.close()

    return app


def inside() -> FastAPI:
    return create_app(SETTINGS, InProcessEngines(server=fake_vllm()), tenants=TENANTS)


def plugged_in() -> FastAPI:
    from secondpass.service.vllm_plugin import Plugin  # noqa: PLC0415 - heavy

    app, plugin = fake_vllm(), Plugin()
    plugin.attach_router(app)
    plugin._tenants = TENANTS
    plugin._attach_app(create_app(SETTINGS, tenants=TENANTS))
    return app


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("make", [inside, plugged_in])
# uvicorn uses a deprecated interface of websockets.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_vllm_routes_require_an_api_key(make: type[FastAPI]) -> None:
    with served(make()) as host:
        for path in ("/solve", "/v1/chat/completions", "/v1/completions", "/v1/no-such"):
            assert httpx.post(f"http://{host}{path}", json={}).status_code == 401, path
        reply = httpx.post(f"http://{host}/v1/completions", json={}, headers=KEY)
        assert (reply.status_code, reply.json()) == (200, "generated")
        assert httpx.get(f"http://{host}/livez").status_code == 200
        with pytest.raises(InvalidStatus), connect(f"ws://{host}/v1/realtime"):
            pass
        with connect(f"ws://{host}/v1/realtime", additional_headers=KEY) as socket:
            assert socket.recv() == "heard"


def test_vllm_health_probe_needs_no_key_in_its_own_server() -> None:
    with served(plugged_in()) as host:
        assert httpx.get(f"http://{host}/health").status_code == 200


def test_forwarded_requests_are_refused_while_draining() -> None:
    app = inside()
    app.state.service.traffic.is_draining = True
    with served(app) as host:
        reply = httpx.post(f"http://{host}/v1/completions", json={}, headers=KEY)
        assert reply.status_code == 503
        assert len(app.state.service.traffic) == 0
