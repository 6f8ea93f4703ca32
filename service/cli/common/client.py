"""HTTP client of a secondpass server. Every error becomes a Failure."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx

from secondpass.service.cli.common.failure import REFUSED, Failure, Json, failure_from_problem
from secondpass.service.common.sse import EventParser

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 120.0
"""Longest pause between two bytes. The server sends keep-alive comments more often than this."""

Event = tuple[str, Json]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def read_api_key(variable: str | None) -> str | None:
    """Return the API key from an environment variable, None without a variable.

    Raises:
        Failure: The variable is unset or empty, or contains characters that are not printable ASCII.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    if not key:
        raise Failure(f"--api-key-env: the environment variable {variable} is not set", REFUSED)
    if not (key.isascii() and key.isprintable()):
        raise Failure(
            f"--api-key-env: the key in {variable} must be printable ASCII characters", REFUSED
        )
    return key


@asynccontextmanager
async def connect(url: str, key: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the server at `url`. Connection errors in the block are raised as Failure."""
    with connection_errors_as_failure(url):
        base = httpx.URL(url.rstrip("/"))
        if base.userinfo or "%40" in base.raw_host.decode().lower():
            raise Failure("--url must have no user name or password: use --api-key-env", REFUSED)
        if base.scheme not in ("http", "https") or not base.host:
            raise Failure(f"--url must be http://HOST:PORT or https://..., not {url!r}", REFUSED)
        async with httpx.AsyncClient(
            base_url=base,
            headers={"authorization": f"Bearer {key}"} if key else None,
            timeout=httpx.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            trust_env=base.host not in _LOOPBACK,  # a proxy cannot reach this machine's loopback
            verify=base.scheme == "https",  # loading certificates is slow
        ) as client:
            yield client


async def get(client: httpx.AsyncClient, path: str) -> Json:
    """Return the JSON object at `path`. Raises Failure."""
    reply = await client.get(path)
    return _document(reply)


async def post(client: httpx.AsyncClient, path: str, body: Json, seconds: float) -> Json:
    """Return the JSON object of the response, which may take `seconds`. Raises Failure."""
    timeout = httpx.Timeout(seconds, connect=CONNECT_TIMEOUT_SECONDS)
    return _document(await client.post(path, json=body, timeout=timeout))


async def stream_solve(client: httpx.AsyncClient, body: Json) -> AsyncGenerator[Event]:
    """Yield the (name, data) events of POST /solve up to `run.finished`. Raises Failure."""
    request = client.build_request(
        "POST", "/solve", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    reply = await client.send(request, stream=True)
    try:
        if "text/event-stream" not in reply.headers.get("content-type", ""):
            await reply.aread()
            raise failure_from_problem(
                _document(reply) | {"detail": "the response is not an event stream"}
            )
        async for name, document in _events(reply.aiter_bytes()):
            if name == "error":
                raise failure_from_problem(document)
            yield name, document
            if name == "run.finished":
                return
    finally:
        await reply.aclose()
    raise Failure("the server closed the connection before the answer")


async def _events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Event]:
    parser = EventParser()
    try:
        async for chunk in chunks:
            events = parser.feed(chunk)
            for name, data in zip(parser.names, events, strict=True):
                yield _event(name, data)
    except ValueError as error:  # includes EventTooLong
        raise Failure("the events are not those of a secondpass server") from error


def _event(name: bytes, data: bytes) -> Event:
    """Parse an event. Raises ValueError without a name or if the data is not a JSON object."""
    document = json.loads(data)
    if not name or not isinstance(document, dict):
        raise ValueError("not an event of a run")
    return name.decode(), document


def _document(reply: httpx.Response) -> Json:
    """Return the JSON object of a response. Raises Failure for an error status or another body."""
    try:
        document: Any = reply.json()
    except ValueError:
        document = None
    if reply.is_success and isinstance(document, dict):
        return document
    if not isinstance(document, dict):
        raise failure_from_problem(
            {
                "status": reply.status_code if reply.is_error else 500,
                "detail": f"{reply.url} is not a secondpass server: "
                f"status {reply.status_code}, and the body is not a JSON object",
            }
        )
    raise failure_from_problem(document | {"status": reply.status_code})


@contextmanager
def connection_errors_as_failure(url: str) -> Iterator[None]:
    """Raise connection errors of the block as Failure."""
    try:
        yield
    except httpx.InvalidURL as error:
        raise Failure(f"--url {url!r}: {error}", REFUSED) from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Failure(
            f"cannot connect to {url} ({str(error) or 'timeout'}); start a server with "
            "`secondpass serve`, set --url, or use --embedded with `solve` or `eval`"
        ) from error
    except httpx.ReadTimeout as error:
        raise Failure(f"{url}: read timeout, the server sent nothing for too long") from error
    except httpx.HTTPError as error:
        raise Failure(f"{url}: {str(error) or type(error).__name__}") from error
