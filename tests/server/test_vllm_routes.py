"""The real application of vLLM: every route is in a list, and its CORS headers are not for our routes."""

import logging
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.routing import Mount, WebSocketRoute

from secondpass.service.config.api_keys import Tenants
from secondpass.service.config.settings import Settings
from secondpass.service.http.access.vllm_routes import ALLOWED, REFUSED, SALTED, WEBSOCKET
from secondpass.service.server.app import create_app
from tests.server.test_beside_vllm import KEY, TENANTS, served

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PAGE = {"origin": "https://page.example"}
OURS = ("/metrics", "/v1/models", "/v1/chat/completions")
"""Routes of vLLM that secondpass answers itself."""


def vllm_app(*flags: str) -> FastAPI:
    """Build vLLM's application with every task and in development mode, without an engine."""
    from vllm import envs  # noqa: PLC0415 - heavy
    from vllm.entrypoints.launchers.app import build_app  # noqa: PLC0415
    from vllm.entrypoints.launchers.cli_args import make_arg_parser  # noqa: PLC0415
    from vllm.tasks import GENERATION_TASKS, POOLING_TASKS  # noqa: PLC0415
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415

    args = make_arg_parser(FlexibleArgumentParser()).parse_args([*flags])
    with (
        patch.object(envs, "VLLM_SERVER_DEV_MODE", True, create=True),
        patch.object(envs, "VLLM_ALLOW_RUNTIME_LORA_UPDATING", True, create=True),
    ):
        app: FastAPI = build_app(args, (*GENERATION_TASKS, *POOLING_TASKS), None)
    return app


def pooling_routes() -> FastAPI:
    """The routes that vLLM adds for certain models only."""
    from vllm.entrypoints.pooling.classify import api_router as classify  # noqa: PLC0415
    from vllm.entrypoints.pooling.embed import api_router as embed  # noqa: PLC0415
    from vllm.entrypoints.pooling.pooling import api_router as pooling  # noqa: PLC0415
    from vllm.entrypoints.pooling.scoring import api_router as scoring  # noqa: PLC0415
    from vllm.entrypoints.serve.fault_tolerance import api_router as faults  # noqa: PLC0415
    from vllm.entrypoints.serve.profile import api_router as profile  # noqa: PLC0415

    app = FastAPI(openapi_url=None)
    for module in (classify, embed, pooling, scoring, faults, profile):
        app.include_router(module.router)
    return app


def test_every_route_of_vllm_is_allowed_or_refused() -> None:
    """A route of a new version of vLLM needs a decision: add it to ALLOWED or REFUSED."""
    app = vllm_app("--enable-scale-out", "--enable-tokenizer-info-endpoint")
    unknown, found = [], set()
    for route in (*app.routes, *pooling_routes().routes):
        path = getattr(route, "path", str(route))
        found.add(path)
        methods = (
            {WEBSOCKET} if isinstance(route, WebSocketRoute) else getattr(route, "methods", {"*"})
        )
        if path in REFUSED or path in OURS:
            continue
        if isinstance(route, Mount) or not methods or not methods <= ALLOWED.get(path, frozenset()):
            unknown.append((path, methods))
    assert not unknown
    assert {"/sleep", "/collective_rpc", "/v1/load_lora_adapter", "/v1/realtime"} <= found
    assert ALLOWED.keys() <= found


def test_the_salted_routes_are_those_with_the_field() -> None:
    app = vllm_app()
    for route in (*app.routes, *pooling_routes().routes):
        if not (isinstance(route, APIRoute) and route.path in ALLOWED and route.body_field):
            continue
        annotation: Any = route.body_field.field_info.annotation
        schema = str(TypeAdapter[Any](annotation).json_schema())
        assert ("'cache_salt'" in schema) == (route.path in SALTED), route.path


def plugged_in(tenants: Tenants) -> FastAPI:
    from secondpass.service.vllm_plugin import Plugin  # noqa: PLC0415 - heavy

    plugin = Plugin()
    with patch("vllm.plugins.load_endpoint_plugins", lambda _: [plugin]):
        app = vllm_app("--allowed-origins", '["*"]')
    app.state.log_stats = False  # as set by vLLM before its lifespan starts
    plugin._attach_app(create_app(Settings(engine="scripted"), tenants=tenants))
    return app


def with_cors(reply: httpx.Response) -> list[str]:
    return [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # uvicorn's interface of websockets
def test_the_routes_of_the_plug_in_have_no_cors_headers() -> None:
    preflight = PAGE | {"access-control-request-method": "POST"}
    with served(plugged_in(Tenants())) as host:
        url = f"http://{host}"
        assert with_cors(httpx.get(f"{url}/version", headers=PAGE))  # vLLM's own
        for path in ("/strategies", "/solve", "/v1/chat/completions", "/v1/models"):
            for reply in (
                httpx.get(f"{url}{path}", headers=PAGE),
                httpx.post(f"{url}{path}", headers=PAGE, json={}),
                httpx.options(f"{url}{path}", headers=preflight),
            ):
                assert reply.status_code == 403
                assert "origin_not_allowed" in reply.text
                assert not with_cors(reply)
        rebound = httpx.get(f"{url}/strategies", headers={"host": "evil.example"})
        assert rebound.status_code == 421
    with served(plugged_in(TENANTS)) as host:
        reply = httpx.get(f"http://{host}/strategies", headers=PAGE | KEY)
        assert reply.status_code == 200
        assert not with_cors(reply)
        assert not with_cors(httpx.options(f"http://{host}/solve", headers=preflight | KEY))


def test_tenants_of_the_plug_in_reach_no_operator_routes() -> None:
    from tests.server import test_beside_vllm  # noqa: PLC0415

    app = test_beside_vllm.plugged_in()
    with served(app) as host:
        for path in ("/sleep", "/collective_rpc", "/v1/load_lora_adapter"):
            reply = httpx.post(f"http://{host}{path}", json={}, headers=KEY)
            assert (reply.status_code, "route_not_allowed" in reply.text) == (403, True)
        assert httpx.get(f"http://{host}/version").status_code == 401
        metrics = httpx.get(f"http://{host}/metrics").text
        assert 'secondpass_auth_failures_total{reason="missing"} 1.0' in metrics
        assert httpx.post(f"http://{host}/v1/completions", json={}, headers=KEY).status_code == 200


@pytest.mark.parametrize("is_set", [True, False])
def test_development_mode_is_warned_of(caplog: pytest.LogCaptureFixture, is_set: bool) -> None:
    from vllm import envs  # noqa: PLC0415 - heavy

    from secondpass.service.engines.vllm.server import warn_of_dev_mode  # noqa: PLC0415

    with (
        caplog.at_level(logging.WARNING),
        patch.object(envs, "VLLM_SERVER_DEV_MODE", is_set, create=True),
    ):
        warn_of_dev_mode()
    assert ("VLLM_SERVER_DEV_MODE" in caplog.text) == is_set
