"""What happens to every request, whatever its route: its id, its tenant, and a reply to any error.

Pure ASGI: a middleware that wraps `receive` in a task of its own hides that the client has left.
"""

from __future__ import annotations

import logging
import re
import uuid

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from secondpass.service.common.errors import Abandoned, Unauthorized
from secondpass.service.config.api_keys import Tenants
from secondpass.service.http.problems import Internal, as_http_error, respond

OPEN_PATHS = frozenset(("/livez", "/readyz", "/metrics"))
"""What a probe or a scraper reads without a key."""

_POLICY_VIOLATION = 1008
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

logger = logging.getLogger(__name__)


class Edge:
    """Names each request, finds its tenant, and turns what nobody handled into an error of ours.

    A client that takes nothing of its reply for `stalled_client_seconds` counts as one that left.
    """

    def __init__(self, app: ASGIApp, tenants: Tenants, stalled_client_seconds: float) -> None:
        self.app = app
        self._tenants = tenants
        self._stalled_client_seconds = stalled_client_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            is_connecting = scope["type"] == "websocket"
            await (self._connect if is_connecting else self.app)(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _id_of(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        has_begun = False

        async def send_named(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await self._send(send, message)

        try:
            if scope["path"] not in OPEN_PATHS:
                scope["state"]["tenant"] = self._tenants.identify(headers.get("authorization"))
            await self.app(scope, receive, send_named)
        except ClientDisconnect:
            logger.info("request %s: 499, the client left", request_id)
        except Abandoned as error:
            logger.info("request %s: 499, %s", request_id, error.detail)
        except Exception as error:  # the boundary: nothing behind it handles anything any more
            failure = as_http_error(error)
            if isinstance(failure, Internal) and failure is not error:
                logger.exception("request %s failed by a defect", request_id)
            if has_begun:
                raise
            await respond(failure, scope["path"])(scope, receive, send_named)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket, of which we have none ourselves: to who is known, and closed before it opens to others."""
        try:
            self._tenants.identify(Headers(scope=scope).get("authorization"))
        except Unauthorized:
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        await self.app(scope, receive, send)

    async def _send(self, send: Send, message: Message) -> None:
        with anyio.move_on_after(self._stalled_client_seconds) as patience:
            await send(message)
        if patience.cancelled_caught:
            raise Abandoned("the client takes nothing of its reply")


def _id_of(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
