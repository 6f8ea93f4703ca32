"""The routes of vLLM's own application that tenants may use.

Tested against vLLM 0.32: a route of a later version that is in neither list is refused, and fails a test.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from secondpass.service.common.cache_salt import with_cache_salt
from secondpass.service.common.errors import HttpError, InvalidRequest, NotFound
from secondpass.service.common.routing_headers import AFFINITY, FORWARDED, PRIORITY
from secondpass.service.common.strict_json import decode
from secondpass.service.common.trace_context import valid_context
from secondpass.service.http.problems import MethodNotAllowed
from secondpass.service.http.request_body import read_body
from secondpass.service.http.routing import is_trusted
from secondpass.service.http.state import Service

SALTED = frozenset(
    (
        *("/v1/completions", "/v1/chat/completions/batch", "/v1/responses", "/v1/messages"),
        *("/v1/embeddings", "/pooling", "/classify", "/v1/systemone", "/generative_scoring"),
        *("/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"),
    )
)
"""Routes that read or fill the prefix cache, and whose body has vLLM's field `cache_salt`."""

WEBSOCKET = "WEBSOCKET"
"""Method of a websocket route."""

ALLOWED: Mapping[str, frozenset[str]] = {
    path: frozenset(methods)
    for path, *methods in (
        *((path, "POST") for path in SALTED),
        ("/tokenize", "POST"),
        ("/detokenize", "POST"),
        ("/v1/messages/count_tokens", "POST"),
        ("/v2/embed", "POST"),
        ("/v1/audio/transcriptions", "POST"),
        ("/v1/audio/translations", "POST"),
        ("/v1/realtime", WEBSOCKET),
        ("/health", "GET"),
        ("/ping", "GET", "POST"),
        ("/version", "GET"),
        ("/load", "GET"),
        ("/openapi.json", "GET", "HEAD"),
    )
}
"""Methods that tenants may use, by path."""

REFUSED = frozenset(
    (
        # Responses and requests of other tenants.
        *("/v1/responses/{response_id}", "/v1/responses/{response_id}/cancel"),
        *("/abort_requests", "/inference/v1/abort_requests"),
        # Internal interfaces between the parts of a deployment.
        *("/inference/v1/generate", "/v1/chat/completions/render", "/v1/messages/render"),
        *("/v1/completions/render", "/v1/responses/render", "/cohere/v2/chat/render"),
        *("/v1/chat/completions/derender", "/v1/completions/derender", "/kv_event_sources"),
        # SageMaker's sessions and adapters, and Cohere's chat: it has no cache_salt.
        *("/invocations", "/adapters", "/adapters/{adapter_name}", "/cohere/v2/chat"),
        # Adapters, profiler and scaling.
        *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/start_profile", "/stop_profile"),
        *("/scale_elastic_ep", "/is_scaling_elastic_ep"),
        *("/fault_tolerance/apply", "/fault_tolerance/status", "/tokenizer_info"),
        # With VLLM_SERVER_DEV_MODE.
        *("/collective_rpc", "/server_info", "/sleep", "/wake_up", "/is_sleeping"),
        *("/release_kv_cache_memory", "/reset_prefix_cache", "/reset_mm_cache"),
        *("/reset_encoder_cache", "/pause", "/resume", "/is_paused", "/get_world_size"),
        *("/init_weight_transfer_engine", "/shutdown_weight_transfer_engine", "/weight_info"),
        *("/start_weight_update", "/start_draft_weight_update", "/update_weights"),
        *("/finish_weight_update", "/update_weight_version", "/weight_checker"),
        # Pages that load scripts from other sites.
        *("/docs", "/docs/oauth2-redirect", "/redoc", "/static"),
    )
)
"""Paths that no tenant may use, as templates."""

_REFUSED_BELOW = tuple(sorted({path.partition("{")[0] for path in REFUSED if "{" in path}))
"""Starts of the refused paths with a parameter."""

_RESPONSES = "/v1/responses"
_STORED = ("previous_response_id", "background")
"""Fields of /v1/responses that refer to vLLM's store of responses, which has no tenants."""

_HEADERS = FORWARDED | AFFINITY | {"host", "content-length", "x-request-id"}


class RouteNotAllowed(HttpError):
    """A route of vLLM that is not for tenants."""

    status = 403
    code = "route_not_allowed"


class VllmRoutes:
    """vLLM's application, limited to the routes for tenants.

    Path and method must be equal to those of an allowed route, as vLLM's router sees them. Only listed headers are passed on:
    none of those with which a client could choose a replica or its priority, and no `Origin`, so that vLLM adds no CORS
    headers. Where several tenants share the engine, bodies get the `cache_salt` of their tenant.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket.

        Raises:
            HttpError: The route is not allowed, or the body cannot be salted.
        """
        path = _route_path(scope)
        method = scope["method"] if scope["type"] == "http" else WEBSOCKET
        check_route(path, method)
        scope = {**scope, "headers": self._headers(scope)}
        if self._service.tenants.are_several and path in SALTED:
            body = await self._salted(path, Request(scope, receive))
            MutableHeaders(scope=scope)["content-length"] = str(len(body))
            receive = _replayed(body, receive)
        await self._app(scope, receive, send)

    async def _salted(self, path: str, request: Request) -> bytes:
        raw = await read_body(request, self._service)
        body = decode(raw)
        if path == _RESPONSES:
            for field in _STORED:
                if body.get(field):
                    raise InvalidRequest(
                        "is not supported where several tenants share vLLM", field=field
                    )
        return with_cache_salt(raw, request.state.tenant.cache_salt)

    def _headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return the headers to pass on."""
        given = Headers(scope=scope)
        names = _HEADERS
        if is_trusted(self._service.settings, scope["state"]["tenant"]):
            names |= PRIORITY
        trace = valid_context(given.getlist("traceparent"), given.getlist("tracestate"))
        return [
            *((name, value) for name, value in given.raw if name.decode("latin-1") in names),
            *((name.encode(), value.encode()) for name, value in trace),
        ]


def check_route(path: str, method: str) -> None:
    """Check that tenants may use a route of vLLM.

    Raises:
        RouteNotAllowed: vLLM has the path, and tenants may not use it.
        MethodNotAllowed: Tenants may use the path with other methods only.
        NotFound: The path is in neither list.
    """
    methods = ALLOWED.get(path)
    if methods is None:
        if _is_refused(path):
            raise RouteNotAllowed(
                f"{path} is a route of vLLM that is not available to tenants; ask the operator"
            )
        raise NotFound("path not found")
    if method not in methods:
        allowed = "a websocket" if WEBSOCKET in methods else ", ".join(sorted(methods))
        raise MethodNotAllowed(f"method not allowed; use {allowed}")


def _is_refused(path: str) -> bool:
    return path in REFUSED or path.startswith(_REFUSED_BELOW)


def _route_path(scope: Scope) -> str:
    """Return the path that the router of an application below a root path compares."""
    path: str = scope["path"]
    root = scope.get("root_path", "")
    is_below = bool(root) and path.startswith(f"{root}/")
    return path[len(root) :] if is_below else path


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields a body that was read already, then the messages of `receive`."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
