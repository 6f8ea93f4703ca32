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
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from secondpass.service.common.errors import BadSettings
from secondpass.service.config.api_keys import Tenants
from secondpass.service.config.settings import DEFAULT_ENGINE, Settings, load
from secondpass.service.config.sources import PREFIX
from secondpass.service.engines.vllm.engine import VllmEngine
from secondpass.service.engines.vllm.server import served_name
from secondpass.service.http.middleware import RequestMiddleware
from secondpass.service.http.openapi import merge_documents
from secondpass.service.server.app import beside, check_sandbox, create_app

_VLLMS_OWN = (
    *("engine", "model", "engine_url", "engine_key_env", "vllm_flags"),
    *("host", "port", "allow_unauthenticated", "access_log", "log_level", "shutdown_grace_seconds"),
)
"""Settings of a server and an engine of our own, of which there are none here."""

_PROBES = frozenset(("/health", "/ping", "/metrics"))
"""Paths of vLLM's that are open whatever keys there are, as they are in vLLM."""

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
        self._tenants: Tenants | None = None
        self._patience = 0.0

    def attach_router(self, app: FastAPI) -> None:
        """Stand in front of the routes of vLLM's application, and live as long as it does."""
        self._vllms = app
        app.add_middleware(_Gate, plugin=self)
        app.openapi = partial(self._described, app.openapi)  # type: ignore[method-assign] # as FastAPI's own documentation does
        vllms_own = app.router.lifespan_context

        @asynccontextmanager
        async def both(served: FastAPI) -> AsyncIterator[Any]:
            async with vllms_own(served) as state, self._lifespan():
                yield state

        app.router.lifespan_context = both

    def _described(self, theirs: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """One document of both applications' routes."""
        return theirs() if self._ours is None else merge_documents(theirs(), self._ours.openapi())

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Make our application over the server's engine. Raises BadSettings, which ends vLLM's start."""
        model, online = served_name(args), state.online_renderer
        engine = VllmEngine(DEFAULT_ENGINE, engine_client, model, online=online, plain=self._plain)
        settings = _settings(model)
        await check_sandbox(settings)
        theirs = _vllms_keys(args)
        if settings.api_keys_file is not None:
            if theirs is not None:
                raise BadSettings("api_keys_file and vLLM's own --api-key exclude each other")
            self._guard(Tenants.load(settings.api_keys_file), settings)
        elif theirs is None:
            logger.warning("no API keys: whoever reaches vLLM's port can use /solve too")
        self._adopt(create_app(settings, beside(engine), tenants=self._tenants or theirs))

    def _guard(self, tenants: Tenants, settings: Settings) -> None:
        """Let only these tenants to what is vLLM's, which has no keys of its own."""
        self._tenants, self._patience = tenants, settings.stalled_client_seconds

    def _adopt(self, ours: FastAPI) -> None:
        self._ours = ours
        self._routes = [route for route in ours.routes if isinstance(route, APIRoute)]

    async def serve(self, scope: Scope, receive: Receive, send: Send, rest: ASGIApp) -> None:
        """Answer a request, or hand it on to the `rest` of vLLM's application."""
        self._rest = rest
        if self._ours is not None and self._is_ours(scope):
            await self._ours(scope, receive, send)
        elif self._tenants is not None and scope.get("path") not in _PROBES:
            await RequestMiddleware(rest, self._tenants, self._patience)(scope, receive, send)
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
    for name in _VLLMS_OWN:
        if (variable := f"{PREFIX}{name.upper()}") in os.environ:
            logger.warning("%s has no effect here: the server and its engine are vLLM's", variable)
    return load([], engine="vllm", model=model, host="127.0.0.1")


def _vllms_keys(args: Namespace) -> Tenants | None:
    """The keys of vLLM's server, for all our paths; None where there are none."""
    keys = [key for key in (args.api_key or [os.environ.get("VLLM_API_KEY")]) if key]
    if not keys:
        return None
    return Tenants({hashlib.sha256(key.encode()).hexdigest(): "vllm" for key in keys})
