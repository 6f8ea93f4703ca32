"""Replies of the hostile upstream."""

from __future__ import annotations

import itertools
import json

from aiohttp import web

from tests.engines.upstream import DONE, Body, Handler, chunk, event, streams

TOKENS = 12


async def answer_42(request: web.Request, body: Body) -> web.StreamResponse:
    """Answer "42" for each completion, with a correct usage."""
    return await writes("The answer is 42.")(request, body)


def writes(*texts: str) -> Handler:
    """Return a handler that generates `texts` in turn, each in one chunk, over all its requests."""
    turns = itertools.cycle(texts)

    async def handle(request: web.Request, body: Body) -> web.StreamResponse:
        number = body.get("n") or 1
        chunks = [event(chunk(next(turns), "stop", index)) for index in range(number)]
        usage = {"prompt_tokens": 9, "completion_tokens": TOKENS * number}
        return await streams(*chunks, event({"choices": [], "usage": usage}), DONE)(request, body)

    return handle


def raw(*payloads: str) -> Handler:
    """Return a handler that streams these payloads as they are, which need not be JSON."""
    return streams(*(f"data: {payload}\n\n".encode() for payload in payloads), DONE)


def with_usage(usage: str) -> Handler:
    """Return a handler that answers "42" with `usage`, a JSON text."""
    text = json.dumps(chunk("The answer is 42.", "stop"))
    return raw(text, f'{{"choices": [], "usage": {usage}}}')
