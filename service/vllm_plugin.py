"""secondpass inside vLLM's own server: `VLLM_PLUGINS=secondpass vllm serve MODEL`.

vLLM finds this by the entry point `secondpass` in the group `vllm.endpoint_plugins`. A request for one of our paths goes to our
application, whose engine is the server's own engine client; every other one, and plain chat with all its parsers, stays
vLLM's. Settings come from SECONDPASS_* variables and the file that SECONDPASS_CONFIG names.
"""

from __future__ import annotations

import hashlib
import logging
import os
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from secondpass.service.app import beside, create_app
from secondpass.service.engines.vllm import VllmEngine
from secondpass.service.engines.vllm_server import served_name
from secondpass.service.settings import DEFAULT_ENGINE, Settings
from secondpass.service.settings_sources import BadSettings
from secondpass.service.tenants import Tenants

_VLLMS_OWN = ("host", "port", "access_log", "log_level", "shutdown_grace_seconds", "vllm_flags")
"""Settings of a server of ours, of which there is none here."""

logger = logging.getLogger(__name__)


class Plugin:
    """An endpoint plug-in of vLLM (0.32). Attached once to an application, before its engine is known."""

    name = "secondpass"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._vllms: FastAPI | None = None
        self._ours: FastAPI | None = None
        self._routes: list[APIRoute] = []
        self._rest: ASGIApp | None = None

    def attach_router(self, app: FastAPI) -> None:
        """Stand in front of the routes of vLLM's application, and live as long as it does."""
        self._vllms = app
        app.add_middleware(_Gate, plugin=self)
        vllms_own = app.router.lifespan_context

        @asynccontextmanager
        async def both(served: FastAPI) -> AsyncIterator[Any]:
            async with vllms_own(served) as state, self._lifespan():
                yield state

        app.router.lifespan_context = both

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Make our application over the server's engine. Raises BadSettings, which ends vLLM's start."""
        model, online = served_name(args), state.online_renderer
        engine = VllmEngine(DEFAULT_ENGINE, engine_client, model, online=online, plain=self._plain)
        settings = _settings(model)
        self._ours = create_app(settings, beside(engine), tenants=_tenants(settings, args))
        self._routes = [route for route in self._ours.routes if isinstance(route, APIRoute)]

    async def serve(self, scope: Scope, receive: Receive, send: Send, rest: ASGIApp) -> None:
        """Answer a request, or hand it on to the `rest` of vLLM's application."""
        self._rest = rest
        if self._ours is not None and self._is_ours(scope):
            await self._ours(scope, receive, send)
        else:
            await rest(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        return scope["type"] == "http" and any(
            route.matches(scope)[0] is not Match.NONE for route in self._routes
        )

    async def _plain(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What vLLM's application says, below our gate, to a request that we forward."""
        if self._rest is None or self._vllms is None:
            raise RuntimeError("a request was forwarded before any came in")
        await self._rest({**scope, "app": self._vllms}, receive, send)

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        if self._ours is None:
            raise RuntimeError("vLLM started its application without init_state")
        async with self._ours.router.lifespan_context(self._ours):
            yield


class _Gate:
    """The middleware of vLLM's application that is the plug-in."""

    def __init__(self, app: ASGIApp, plugin: Plugin) -> None:
        self._app, self._plugin = app, plugin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._plugin.serve(scope, receive, send, self._app)


def _settings(model: str) -> Settings:
    settings = Settings(engine="vllm", model=model, host="127.0.0.1")
    for name in _VLLMS_OWN:
        if name in settings.model_fields_set - {"host"}:
            logger.warning("SECONDPASS_%s has no effect here: the server is vLLM's", name.upper())
    return settings


def _tenants(settings: Settings, args: Namespace) -> Tenants | None:
    """Our keys, or those of vLLM's server, for all our paths; None where neither has any."""
    keys = [key for key in (args.api_key or [os.environ.get("VLLM_API_KEY")]) if key]
    if not keys:
        if settings.api_keys_file is None:
            logger.warning("no API keys: whoever reaches vLLM's port can use /solve too")
        return None
    if settings.api_keys_file is not None:
        raise BadSettings("api_keys_file and vLLM's own --api-key exclude each other: set one")
    return Tenants({hashlib.sha256(key.encode()).hexdigest(): "vllm" for key in keys})
