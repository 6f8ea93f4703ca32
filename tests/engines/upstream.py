"""A fake OpenAI server on a real socket, with valid and invalid replies."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Body = dict[str, Any]
Handler = Callable[[web.Request, Body], Awaitable[web.StreamResponse]]

DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chunk(text: str = "", finish: str | None = None, index: int = 0, **more: object) -> Body:
    """Return one chunk of a streamed chat completion."""
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice | more]}


async def start_stream(request: web.Request) -> web.StreamResponse:
    """Start an event stream."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    return response


def streams(*parts: bytes, pause: float = 0.0) -> Handler:
    """Return a handler that writes `parts` unchanged, with `pause` seconds after each."""

    async def handle(request: web.Request, _: Body) -> web.StreamResponse:
        response = await start_stream(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(pause)
        return response

    return handle


def refuses(status: int, reply: object, **headers: str) -> Handler:
    """Return a handler that answers with an error."""

    async def handle(_: web.Request, __: Body) -> web.StreamResponse:
        return web.json_response(reply, status=status, headers=headers)

    return handle


def in_turn(handlers: Iterable[Handler]) -> Handler:
    """Return a handler that answers each request with the next of `handlers`."""
    remaining = iter(handlers)

    async def handle(request: web.Request, body: Body) -> web.StreamResponse:
        return await next(remaining)(request, body)

    return handle


async def endless(request: web.Request, _: Body) -> web.StreamResponse:
    """Stream a completion that never ends."""
    response = await start_stream(request)
    while True:
        await response.write(event(chunk("word ")))
        await asyncio.sleep(0.005)


def breaking(*parts: bytes) -> Handler:
    """Return a handler that writes `parts` and aborts the connection."""

    async def handle(request: web.Request, _: Body) -> web.StreamResponse:
        response = await start_stream(request)
        for part in parts:
            await response.write(part)
        await asyncio.sleep(0.02)
        assert request.transport is not None
        request.transport.abort()
        return response

    return handle


async def plain(request: web.Request, body: Body) -> web.StreamResponse:
    """Reply "Hello" for each completion."""
    chunks: list[bytes] = []
    for index in range(body.get("n") or 1):
        chunks += event(chunk("Hello", index=index)), event(chunk("", "stop", index))
    return await streams(*chunks, DONE)(request, body)


async def counting(request: web.Request, body: Body) -> web.StreamResponse:
    """Reply "one two three" for each completion, with the running count of its tokens in each chunk."""
    chunks: list[bytes] = []
    for index in range(body.get("n") or 1):
        for count, (word, reason) in enumerate(
            (("one", None), (" two", None), (" three", "stop")), 1
        ):
            usage = {"prompt_tokens": 9, "completion_tokens": count}
            chunks.append(event(chunk(word, reason, index) | {"usage": usage}))
    return await streams(*chunks, DONE)(request, body)


@dataclass
class Upstream:
    """A fake OpenAI server.

    Attributes:
        models: entries of /v1/models.
        chat: handler of /v1/chat/completions.
        routes: handlers of other paths; they take precedence.
        requests: path, headers with lower-case names, and body of each request.
        connections: transports of all requests.
        running: number of requests in progress.
        url: base URL, ending in /v1.
    """

    models: list[Body] = field(default_factory=lambda: [{"id": "model", "owned_by": "someone"}])
    chat: Handler = plain
    routes: dict[str, Handler] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    running: int = 0
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Record the request and call its handler."""
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path, headers, raw))
        self.connections.add(request.transport)
        handler = self.routes.get(request.path)
        if handler is None and request.path == "/v1/models":
            return web.json_response({"object": "list", "data": self.models})
        if handler is None and request.path == "/v1/chat/completions":
            handler = self.chat
        if handler is None:
            raise web.HTTPNotFound
        self.running += 1
        try:
            return await handler(request, json.loads(raw or b"null"))
        finally:
            self.running -= 1

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator["Upstream"]:
        """Serve on loopback until the block ends; port 0 chooses a free port."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()
