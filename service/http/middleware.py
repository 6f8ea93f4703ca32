"""Middleware for every request: its id, its tenant, and a response to any exception.

Pure ASGI, because a middleware that wraps `receive` in its own task hides disconnects.
"""

from __future__ import annotations

import logging
import re
import uuid
from contextlib import closing

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from secondpass.service.common.errors import (
    ClientDisconnected,
    HttpError,
    Unauthorized,
    release,
)
from secondpass.service.common.uploads import Upload, Uploads
from secondpass.service.config.api_keys import Tenants
from secondpass.service.http.access.auth_failures import AuthFailures
from secondpass.service.http.access.browser_rules import OPEN_PATHS, BrowserRules
from secondpass.service.http.problems import Internal, as_http_error, error_response

_POLICY_VIOLATION = 1008
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

logger = logging.getLogger(__name__)


class RequestMiddleware:
    """Assign an id and a tenant to each request, and convert unhandled exceptions to error responses.

    A client that reads nothing of its response for `stalled_client_seconds` counts as disconnected. A response that
    starts before the body is complete closes the connection.

    Args:
        app: The application.
        tenants: The tenants and their API keys.
        stalled_client_seconds: Seconds without reading.
        uploads: Bodies that are being read, with their limits.
        browser_rules: Hosts and origins that are accepted; None accepts all.
        auth_failures: Counts refused API keys.
    """

    def __init__(
        self,
        app: ASGIApp,
        tenants: Tenants,
        stalled_client_seconds: float,
        uploads: Uploads | None = None,
        *,
        browser_rules: BrowserRules | None = None,
        auth_failures: AuthFailures | None = None,
    ) -> None:
        self.app = app
        self._uploads = uploads or Uploads()
        self._tenants = tenants
        self._stalled_client_seconds = stalled_client_seconds
        self._browser_rules = browser_rules
        self._auth_failures = auth_failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            is_websocket = scope["type"] == "websocket"
            await (self._websocket if is_websocket else self.app)(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with closing(Upload(self._uploads, headers, receive)) as upload:
            try:
                await self._http(scope, headers, upload, send)
            finally:
                self._uploads.end(upload)

    async def _http(self, scope: Scope, headers: Headers, upload: Upload, send: Send) -> None:
        request_id = _request_id(headers)
        scope.setdefault("state", {}).update(request_id=request_id, upload=upload)
        has_started = False
        response: Response | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                reply_headers = MutableHeaders(scope=message)
                reply_headers["x-request-id"] = request_id
                reply_headers["x-content-type-options"] = "nosniff"
                if not await upload.discard():
                    reply_headers["connection"] = "close"
            await self._send(send, message)

        try:
            self._admit(scope, headers, is_open=scope["path"] in OPEN_PATHS)
            await self.app(scope, upload.receive, send_with_id)
        except ClientDisconnect:
            logger.info("request %s: 499, the client disconnected", request_id)
        except ClientDisconnected as error:
            logger.info("request %s: 499, %s", request_id, error.detail)
        except Exception as error:  # outermost handler: every request needs a response
            response = _response(error, scope["path"], request_id)
            if has_started:
                raise
            release(error)
        # Sent here, because the traceback of the error keeps the body in memory.
        if response is not None:
            await response(scope, upload.receive, send_with_id)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a websocket of a known tenant; close any other before it opens.

        The service has no websocket routes, but the application behind it may.
        """
        is_open = False

        async def send_noting(message: Message) -> None:
            nonlocal is_open
            is_open = is_open or message["type"] == "websocket.accept"
            await send(message)

        scope.setdefault("state", {})
        try:
            self._admit(scope, Headers(scope=scope), is_open=False)
            await self.app(scope, receive, send_noting)
        except HttpError:
            if is_open:
                raise
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})

    def _admit(self, scope: Scope, headers: Headers, *, is_open: bool) -> None:
        """Check host, origin and, unless the path is open, the API key; record the tenant. Raises HttpError."""
        if self._browser_rules is not None:
            self._browser_rules.check(scope)
        if is_open:
            return
        try:
            scope["state"]["tenant"] = self._tenants.identify(headers.get("authorization"))
        except Unauthorized as error:
            if self._auth_failures is not None:
                self._auth_failures.record(error, scope)
            raise

    async def _send(self, send: Send, message: Message) -> None:
        with anyio.move_on_after(self._stalled_client_seconds) as timeout:
            await send(message)
        if timeout.cancelled_caught:
            raise ClientDisconnected("the client stopped reading its response")


def _response(error: Exception, path: str, request_id: str) -> Response:
    """Return the response to an error. A defect of the service is logged."""
    failure = as_http_error(error)
    if isinstance(failure, Internal) and failure is not error:
        logger.error("request %s: internal error", request_id, exc_info=error)
    return error_response(failure, path)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
