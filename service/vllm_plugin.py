"""secondpass inside vLLM's own server: `VLLM_PLUGINS=secondpass vllm serve MODEL`.

vLLM loads this module through the entry point `secondpass` in the group `vllm.endpoint_plugins`. The secondpass application
answers requests for its own paths and generates with the server's engine client. vLLM answers all other requests, and
plain chat with all its parsers. Settings come from SECONDPASS_* variables and from the file in SECONDPASS_CONFIG.
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
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from secondpass.service.common.errors import BadSettings
from secondpass.service.common.logs import limit_log
from secondpass.service.config.api_keys import Tenants
from secondpass.service.config.settings import DEFAULT_ENGINE, Settings, load
from secondpass.service.config.sources import PREFIX
from secondpass.service.engines.vllm.engine import VllmEngine
from secondpass.service.engines.vllm.server import served_name, warn_of_dev_mode
from secondpass.service.http.access.auth_failures import AuthFailures
from secondpass.service.http.access.vllm_routes import VllmRoutes
from secondpass.service.http.middleware import RequestMiddleware
from secondpass.service.http.openapi import merge_documents
from secondpass.service.server.app import (
    check_sandbox,
    create_app,
    running_in_process,
    service_in,
)

_IGNORED_SETTINGS = (
    *("engine", "model", "engine_url", "engine_key_env", "vllm_flags"),
    *("host", "port", "allow_unauthenticated", "access_log", "log_level", "shutdown_grace_seconds"),
)
"""Settings without effect here, because vLLM configures the server and the engine."""

_PROBES = frozenset(("/health", "/ping", "/metrics"))
"""Paths of vLLM that never need an API key, as in vLLM itself."""

logger = logging.getLogger(__name__)


class Plugin:
    """An endpoint plug-in of vLLM (0.32).

    vLLM attaches it to one application before the engine exists.
    """

    name = "secondpass"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._vllm_app: FastAPI | None = None
        self._app: FastAPI | None = None
        self._routes: list[APIRoute] = []
        self._rest: ASGIApp | None = None
        self._tenants: Tenants | None = None
        self._guard: RequestMiddleware | None = None

    def attach_router(self, app: FastAPI) -> None:
        """Add the middleware that routes requests, and join the lifespan of vLLM's application."""
        self._vllm_app = app
        app.add_middleware(_PluginMiddleware, plugin=self)
        app.build_middleware_stack = partial(  # type: ignore[method-assign]
            self._build_stack, app, app.build_middleware_stack
        )
        app.openapi = partial(self._openapi, app.openapi)  # type: ignore[method-assign] # as FastAPI's own documentation does
        vllm_lifespan = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(served: FastAPI) -> AsyncIterator[Any]:
            async with vllm_lifespan(served) as state, self._lifespan():
                yield state

        app.router.lifespan_context = lifespan

    def _openapi(self, vllm_openapi: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return one OpenAPI document with the routes of both applications."""
        return (
            vllm_openapi()
            if self._app is None
            else merge_documents(vllm_openapi(), self._app.openapi())
        )

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Create the secondpass application over the server's engine.

        Raises:
            BadSettings: The settings are invalid. It aborts the startup of vLLM.
        """
        limit_log("secondpass")
        warn_of_dev_mode()
        model, online = served_name(args), state.online_renderer
        engine = VllmEngine(
            DEFAULT_ENGINE, engine_client, model, online=online, plain=self._forward
        )
        settings = _settings(model, args.host)
        await check_sandbox(settings)
        vllm_tenants = _vllm_tenants(args)
        if settings.api_keys_file is not None:
            if vllm_tenants is not None:
                raise BadSettings(
                    "api_keys_file and vLLM's --api-key (or VLLM_API_KEY) exclude each other: set one of them"
                )
            self._tenants = Tenants.load(settings.api_keys_file)
        elif vllm_tenants is None:
            logger.warning(
                "no API keys are configured: every client that reaches vLLM's port can use /solve"
            )
        tenants = self._tenants or vllm_tenants
        self._attach_app(create_app(settings, running_in_process(engine), tenants=tenants))

    def _build_stack(self, app: FastAPI, build: Callable[[], ASGIApp]) -> ASGIApp:
        """Build the middleware of vLLM's application, with that of the plug-in before CORS.

        vLLM adds its own middleware later, and so before that of the plug-in. Its CORS headers are for its own routes; its
        authentication remains first.
        """
        stack = app.user_middleware
        classes: list[object] = [each.cls for each in stack]
        own = stack.pop(classes.index(_PluginMiddleware))
        classes.remove(_PluginMiddleware)
        stack.insert(classes.index(CORSMiddleware) if CORSMiddleware in classes else 0, own)
        return build()

    def _attach_app(self, app: FastAPI) -> None:
        self._app = app
        self._routes = [route for route in app.routes if isinstance(route, APIRoute)]
        if self._tenants is not None:  # vLLM has no keys of its own
            service = service_in(app)
            self._guard = RequestMiddleware(
                VllmRoutes(self._call_rest, service),
                self._tenants,
                service.settings.stalled_client_seconds,
                service.traffic.uploads,
                auth_failures=AuthFailures(service.metrics.count_auth_failure),
            )

    async def serve(self, scope: Scope, receive: Receive, send: Send, rest: ASGIApp) -> None:
        """Handle a request for a secondpass path; pass all others to vLLM's application, `rest`."""
        self._rest = rest
        if self._app is not None and self._matches(scope):
            await self._app(scope, receive, send)
        elif self._guard is not None and scope.get("path") not in _PROBES:
            await self._guard(scope, receive, send)
        else:
            await rest(scope, receive, send)

    def _matches(self, scope: Scope) -> bool:
        return scope["type"] == "http" and any(
            route.matches(scope)[0] is not Match.NONE for route in self._routes
        )

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a forwarded request to vLLM's application, below the plug-in's middleware."""
        await self._call_rest({**scope, "app": self._vllm_app}, receive, send)

    async def _call_rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._rest is None or self._vllm_app is None:
            raise RuntimeError("a request was forwarded before the first request arrived")
        await self._rest(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        if self._app is None:
            raise RuntimeError("vLLM started its application without calling init_state")
        async with self._app.router.lifespan_context(self._app):
            yield


class _PluginMiddleware:
    """Middleware of vLLM's application that calls the plug-in."""

    def __init__(self, app: ASGIApp, plugin: Plugin) -> None:
        self._app, self._plugin = app, plugin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._plugin.serve(scope, receive, send, self._app)


def _settings(model: str, host: str | None) -> Settings:
    """Return the settings. The address is that of vLLM, which by default listens on all."""
    for name in _IGNORED_SETTINGS:
        if (variable := f"{PREFIX}{name.upper()}") in os.environ:
            logger.warning(
                "%s has no effect in the plug-in: vLLM configures the server and the engine",
                variable,
            )
    address = host or "0.0.0.0"  # noqa: S104 - vLLM has bound it already
    return load([], engine="vllm", model=model, host=address, allow_unauthenticated=True)


def _vllm_tenants(args: Namespace) -> Tenants | None:
    """Return a tenant `vllm` with the API keys of vLLM's server, or None if it has no keys."""
    keys = [key for key in (args.api_key or [os.environ.get("VLLM_API_KEY")]) if key]
    if not keys:
        return None
    return Tenants({hashlib.sha256(key.encode()).hexdigest(): "vllm" for key in keys})
