"""Plain OpenAI requests: forwarded to an engine byte for byte, aborted on disconnect."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from secondpass.service.common.forwarded_stream import ForwardedStream, is_event_stream
from secondpass.service.http.disconnect import cancel_on_disconnect
from secondpass.service.http.problems import as_http_error, error_chunks
from secondpass.service.http.state import RequestTracker, ServedEngine, Service
from secondpass.strategies.api.engine import PlainReply, PlainRequest
from secondpass.strategies.api.errors import EngineError, StreamInterrupted

logger = logging.getLogger(__name__)


class ForwardedResponse(Response):
    """An engine's own response, forwarded from its status to its last byte."""

    def __init__(self, service: Service, node: ServedEngine, plain: PlainRequest) -> None:
        super().__init__()
        self._service, self._upstream, self._plain = service, node.upstream, plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the response.

        An event stream that breaks ends with an error chunk. Another response that breaks closes the connection.
        """
        with self._service.traffic.plain():
            is_complete = await cancel_on_disconnect(receive, partial(self._forward, send))
        if is_complete:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _forward(self, send: Send) -> bool:
        """Send everything but the final message. Return False if the response was interrupted."""
        record_end = self._service.metrics.start_forwarded()
        status: int | None = None
        engine = self._upstream.engine
        try:
            async with (
                self._upstream.admission.slot(),
                engine.forward(self._plain) as response,
            ):
                await send(_start_message(response.status, response.headers))
                status = response.status
                if is_event_stream(status, response.headers):
                    await self._forward_events(response, send)
                else:
                    async for chunk in response.chunks:
                        await send(_body_message(chunk))
        except EngineError as error:
            if status is None:
                raise as_http_error(error) from error
            self._log_interruption(error)
            return False
        finally:
            record_end(status)
        return True

    async def _forward_events(self, response: PlainReply, send: Send) -> None:
        """Forward an event stream. If it breaks or ends early, add an error chunk and [DONE]."""
        stream = ForwardedStream()
        try:
            async for chunk in response.chunks:
                if data := stream.feed(chunk):
                    await send(_body_message(data))
            if rest := stream.close():
                await send(_body_message(rest))
            if not stream.is_complete:
                raise StreamInterrupted("the stream ended without a finish reason")
        except EngineError as error:
            self._log_interruption(error)
            if not stream.is_complete:
                # The blank line ends an event that was too long to be buffered.
                await send(_body_message(b"\n\n" + error_chunks(as_http_error(error))))

    def _log_interruption(self, error: EngineError) -> None:
        name = self._upstream.engine.name
        logger.warning("engine %s interrupted a forwarded response: %s", name, error.logged)


def _body_message(data: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": True}


class FallbackApp:
    """A fallback application whose requests are admitted and drained like forwarded ones."""

    def __init__(self, app: ASGIApp, traffic: RequestTracker) -> None:
        self._app, self._traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises NotAdmitted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._traffic.plain():
            await self._app(scope, receive, send)


def _start_message(status: int, headers: Sequence[tuple[str, str]]) -> dict[str, object]:
    raw = [(name.lower().encode("latin-1"), _encode_value(value)) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": raw}


def _encode_value(value: str) -> bytes:
    """Encode a header value as Latin-1, or as UTF-8 if it contains other characters."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()
