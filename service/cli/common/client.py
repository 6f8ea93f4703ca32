"""The service as its client sees it: requests, and the events of a run; every trouble becomes a Failure."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx

from secondpass.service.cli.common.failure import REFUSED, Failure, Json, failure_of
from secondpass.service.common.sse import EventParser

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 120.0
"""After so long without a byte a server is gone: it sends comments while there is nothing to tell."""

Event = tuple[str, Json]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def key_in(variable: str | None) -> str | None:
    """The API key that the variable holds. Raises Failure when it is not set."""
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    if not key:
        raise Failure(f"the environment has no {variable}, which --api-key-env names", REFUSED)
    if not (key.isascii() and key.isprintable()):
        raise Failure(f"the API key in {variable} has characters that no key has", REFUSED)
    return key


@asynccontextmanager
async def connect(url: str, key: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server at `url`; what goes wrong in the block is raised as Failure."""
    with explained(url):
        base = httpx.URL(url.rstrip("/"))
        if base.scheme not in ("http", "https") or not base.host:
            raise Failure(f"--url must be http://HOST:PORT or https://..., not {url!r}", REFUSED)
        async with httpx.AsyncClient(
            base_url=base,
            headers={"authorization": f"Bearer {key}"} if key else None,
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            trust_env=base.host not in _LOOPBACK,  # a proxy would look for a server beside itself
            verify=base.scheme == "https",  # reading certificates takes a while
        ) as client:
            yield client


async def get(client: httpx.AsyncClient, path: str) -> Json:
    """The document at `path`. Raises Failure."""
    reply = await client.get(path)
    return _document(reply)


async def post(client: httpx.AsyncClient, path: str, body: Json, seconds: float) -> Json:
    """The reply to a request, which may take that many seconds. Raises Failure."""
    patient = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
    return _document(await client.post(path, json=body, timeout=patient))


async def ask(client: httpx.AsyncClient, body: Json) -> AsyncGenerator[Event]:
    """The events of a solve, named as on the wire, the last one `run.finished`. Raises Failure."""
    request = client.build_request(
        "POST", "/solve", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    reply = await client.send(request, stream=True)
    try:
        if "text/event-stream" not in reply.headers.get("content-type", ""):
            await reply.aread()
            raise failure_of(_document(reply) | {"detail": "the reply is no event stream"})
        async for name, document in _events(reply.aiter_bytes()):
            if name == "error":
                raise failure_of(document)
            yield name, document
            if name == "run.finished":
                return
    finally:
        await reply.aclose()
    raise Failure("the server ended the connection before the answer")


async def _events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Event]:
    parser = EventParser()
    try:
        async for chunk in chunks:
            events = parser.feed(chunk)
            for name, data in zip(parser.names, events, strict=True):
                yield _event(name, data)
    except ValueError as error:  # EventTooLong among them
        raise Failure("the server does not send events as secondpass does") from error


def _event(name: bytes, data: bytes) -> Event:
    """An event with a name and an object as its data. Raises ValueError for any other."""
    document = json.loads(data)
    if not name or not isinstance(document, dict):
        raise ValueError("no event of a run")
    return name.decode(), document


def _document(reply: httpx.Response) -> Json:
    """The JSON object of a reply. Raises Failure for an error status, and where there is none."""
    try:
        document: Any = reply.json()
    except ValueError:
        document = None
    if reply.is_success and isinstance(document, dict):
        return document
    if not isinstance(document, dict):
        raise failure_of(
            {
                "status": reply.status_code if reply.is_error else 500,
                "detail": f"{reply.url} answered {reply.status_code}, not as secondpass does",
            }
        )
    raise failure_of(document | {"status": reply.status_code})


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Raise what goes wrong with the connection in the block as Failure."""
    try:
        yield
    except httpx.InvalidURL as error:
        raise Failure(f"--url {url!r}: {error}", REFUSED) from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Failure(
            f"nothing answers at {url} ({str(error) or 'no connection in time'}); start a server with "
            "`secondpass serve`, name another one with --url, or solve with --embedded"
        ) from error
    except httpx.ReadTimeout as error:
        raise Failure(f"{url} has been silent for too long") from error
    except httpx.HTTPError as error:
        raise Failure(f"{url}: {str(error) or type(error).__name__}") from error
