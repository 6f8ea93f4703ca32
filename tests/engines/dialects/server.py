"""A server of all dialects on a real socket, each below its own path."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.engines.dialects.speech import PROMPT_TOKENS, Ask, Speech, whole_reply


class Abort(Exception):
    """Closes the connection in the middle of a reply."""


@dataclass
class DialectServer:
    """A server of dialects, by name.

    Attributes:
        used: Prompt and completion tokens of each reply of a dialect, except those to probes.
        url: Base URL; the API of a dialect is at /NAME/v1 below it.
    """

    speeches: Mapping[str, Speech]
    used: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    url: str = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[DialectServer]:
        """Serve on loopback until the block ends."""
        app = web.Application()
        app.router.add_get("/{name}/v1/models", self._models)
        app.router.add_post("/{name}/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        speech = self.speeches[request.match_info["name"]]
        listed = speech.models(speech.name)
        return web.json_response(listed, status=404 if listed is None else 200)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        speech = self.speeches[request.match_info["name"]]
        ask = Ask(json.loads(await request.read()))
        if (refusal := speech.refuse(ask)) is not None:
            status, body = refusal
            if isinstance(body, str):
                return web.Response(text=body, status=status, content_type="text/html")
            return web.json_response(body, status=status)
        if speech.ignores_stream or not ask.body.get("stream"):
            reply = whole_reply(ask)
            self._record(speech, ask)
            return web.json_response(reply)
        return await self._stream(request, speech, ask)

    async def _stream(self, request: web.Request, speech: Speech, ask: Ask) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": speech.stream.media_type})
        if speech.stream.is_compressed:
            response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        try:
            for event in speech.stream.events(ask):
                await response.write(event)
        except Abort:
            assert request.transport is not None
            request.transport.close()
        self._record(speech, ask)
        return response

    def _record(self, speech: Speech, ask: Ask) -> None:
        if not ask.is_probe:
            self.used[speech.name].append((PROMPT_TOKENS, ask.completion))
