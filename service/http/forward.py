"""Plain OpenAI requests: handed to an engine byte for byte, and aborted there when the client leaves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from secondpass.service.http.disconnect import cancel_on_disconnect
from secondpass.service.http.problems import as_http_error
from secondpass.service.http.state import Node, Service, Traffic
from secondpass.strategies.api.engine import PlainRequest
from secondpass.strategies.api.errors import EngineError

logger = logging.getLogger(__name__)


class Forwarded(Response):
    """The engine's own reply, from its status to its last byte."""

    def __init__(self, service: Service, node: Node, plain: PlainRequest) -> None:
        super().__init__()
        self._service, self._upstream, self._plain = service, node.upstream, plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward; an engine that fails after its first byte ends the connection, which says that it failed."""
        with self._service.traffic.plain():
            is_whole = await cancel_on_disconnect(receive, partial(self._forward, send))
        if is_whole:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _forward(self, send: Send) -> bool:
        """Send all but the end; False when the reply broke off."""
        ended = self._service.metrics.plain_began()
        status: int | None = None
        engine = self._upstream.engine
        try:
            async with (
                self._upstream.admission.slot(),
                engine.forward(self._plain) as reply,
            ):
                await send(_start(reply.status, reply.headers))
                status = reply.status
                async for chunk in reply.chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except EngineError as error:
            if status is None:
                raise as_http_error(error) from error
            logger.warning("engine %s broke off a forwarded reply: %s", engine.name, error)
            return False
        finally:
            ended(status)
        return True


class Counted:
    """An application beside ours, whose requests are taken and drained as forwarded ones are."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app, self._traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises NotAdmitted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._traffic.plain():
            await self._app(scope, receive, send)


def _start(status: int, headers: Sequence[tuple[str, str]]) -> dict[str, object]:
    raw = [(name.lower().encode("latin-1"), _bytes(value)) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": raw}


def _bytes(value: str) -> bytes:
    """The bytes of a header's value, which was read as Latin-1 where it is no UTF-8."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()
