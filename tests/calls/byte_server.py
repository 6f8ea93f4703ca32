"""OpenAI-compatible test server on a real socket, with replies scripted byte by byte.

Each dialect has its own path. The "vllm" dialect also tokenizes, and continues completions from token ids.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle

from tests.calls.byte_script import (
    DEFAULT_SCRIPT,
    DIALECTS,
    RENDERED,
    Attempt,
    Body,
    Break,
    Chunks,
    Dialect,
    Script,
    Stall,
    Trouble,
)

TICK = 0.001
"""Seconds after which the client has read all sent bytes; both share one event loop."""


class _Unreadable(Exception):
    """The rest of the reply is unreadable."""


class _ClientDisconnected(Exception):
    """The client closed the connection."""


@dataclass
class ByteServer:
    """Test server. `scripts` are used for the next requests in order of arrival, then DEFAULT_SCRIPT."""

    scripts: deque[Script] = field(default_factory=deque)
    attempts: list[Attempt] = field(default_factory=list)
    tokenize_failures: int = 0
    tokenize_failed: int = 0
    has_run_ended: bool = False
    on_event: Callable[[], None] = lambda: None
    port: int = 0
    _replying: int = 0
    _moving: int = 0
    _texts: dict[int, str] = field(default_factory=dict)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def replying(self) -> int:
        """Number of replies in progress."""
        return self._replying

    def url(self, dialect: Dialect) -> str:
        """Return the base URL of a dialect."""
        return f"http://127.0.0.1:{self.port}/{dialect}/v1"

    def reset(self, scripts: Sequence[Script], *, tokenize_failures: int = 0) -> None:
        """Clear the recorded requests and set the scripts of the next ones."""
        self.scripts = deque(scripts)
        self.attempts.clear()
        self.tokenize_failures, self.tokenize_failed = tokenize_failures, 0
        self.has_run_ended = False
        self.on_event = lambda: None

    async def settle(self) -> None:
        """Wait until no reply is in progress. Raises TimeoutError after 2 s."""
        self.has_run_ended = True
        async with asyncio.timeout(2):
            while self._replying:
                await asyncio.sleep(0)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ByteServer]:
        """Serve on loopback until the block is left."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await asyncio.gather(*self._open, return_exceptions=True)
            await server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reply to the requests of one connection."""
        if (task := asyncio.current_task()) is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        with suppress(_ClientDisconnected, ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                size = head.partition("content-length:")[2].split("\r\n")[0].strip()
                raw = await reader.readexactly(int(size or 0))
                self._replying += 1
                self._moving += 1
                try:
                    connection = _Connection(reader, writer)
                    is_kept = await self._reply(
                        head.split()[1], json.loads(raw or b"{}"), connection
                    )
                finally:
                    self._replying -= 1
                    self._moving -= 1
                if not is_kept:
                    break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _reply(self, path: str, body: Body, to: _Connection) -> bool:
        """Reply to one request; return whether the connection can be reused."""
        dialect: Dialect = next(each for each in DIALECTS if path.startswith(f"/{each}/"))
        route = path.removeprefix(f"/{dialect}/")
        if route == "v1/models":
            owner = "vllm" if dialect == "vllm" else "test"
            return await to.send_json({"data": [{"id": "model", "owned_by": owner}]})
        if route in ("tokenize", "detokenize") and self.tokenize_failures:
            self.tokenize_failures -= 1
            self.tokenize_failed += 1
            return False if self.tokenize_failures % 2 else await to.send_json({}, 503)
        if route == "tokenize":
            return await to.send_json({"tokens": RENDERED})
        if route == "detokenize":
            return await to.send_json({"prompt": self._text_of(body["tokens"])})
        assert route in ("v1/chat/completions", "v1/completions"), route
        script = self.scripts.popleft() if self.scripts else DEFAULT_SCRIPT
        attempt = Attempt(len(self.attempts), dialect, body, script)
        if ids := body.get("prompt"):
            attempt.prompt = len(ids)
            attempt.prefix = self._text_of(ids[len(RENDERED) :])
        attempt.requested = sum(
            each.total_cap if each.is_open else each.sent for each in self.attempts
        )
        self.attempts.append(attempt)
        return await self._play(attempt, to)

    def _text_of(self, ids: Sequence[int]) -> str:
        return "".join(self._texts.get(token, "") for token in ids)

    async def _play(self, attempt: Attempt, to: _Connection) -> bool:
        opening = attempt.script.opening
        if opening == "stream":
            return await self._stream(attempt, to)
        if isinstance(opening, int):
            return await to.send_json({"error": {"message": "no"}}, opening)
        if opening == "no stream":
            return await to.send_json({"choices": []})
        if opening == "garbled head":
            await to.send(b"HTTP/1.1 two hundred\r\n\r\n")
        return False

    async def _stream(self, attempt: Attempt, to: _Connection) -> bool:
        script, stream = attempt.script, _Stream(to, attempt.script)
        chunks = Chunks(attempt, self._texts)
        attempt.is_open = True
        await stream.begin()
        try:
            for step in script.steps:
                self.on_event()
                if isinstance(step, Stall):
                    await stream.flush()
                    await self._stall(to)
                elif isinstance(step, Break):
                    await self._break(step.trouble, chunks, stream)
                else:
                    await stream.send(*chunks.of(step))
            await stream.send(*chunks.completing())
            if script.late is None:
                chunks.close()
            if script.late is not None:
                await self._break(script.late, chunks, stream)
            await stream.send(*chunks.closing())
        except _Unreadable as trouble:
            attempt.trouble = trouble.args[0]
            await stream.flush()
            await asyncio.sleep(TICK)
            return False
        return await stream.end()

    async def _break(self, trouble: Trouble, chunks: Chunks, stream: _Stream) -> None:
        event = b"" if trouble == "end" else chunks.broken(trouble)
        if event is not None:
            chunks.close()
            await stream.send(event)
            raise _Unreadable(trouble)

    async def _stall(self, connection: _Connection) -> None:
        self._moving -= 1
        try:
            await connection.until_closed(lambda: not self.has_run_ended and self._moving <= 0)
        finally:
            self._moving += 1


class _Connection:
    """Connection of one client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Write and yield to the event loop. Raises _ClientDisconnected."""
        if self._writer.is_closing() or self._reader.at_eof():
            raise _ClientDisconnected
        self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(0)

    async def send_json(self, reply: object, status: int = 200) -> bool:
        """Write a complete JSON reply; return True, as the connection can be reused."""
        raw = json.dumps(reply).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nretry-after: 0\r\n"
        await self.send(f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw)
        return True

    async def until_closed(self, is_done: Callable[[], bool]) -> None:
        """Wait until `is_done` returns True. Raises _ClientDisconnected."""
        reading = asyncio.ensure_future(self._reader.read(1))
        try:
            while not (await asyncio.wait([reading], timeout=TICK))[0]:
                if is_done():
                    return
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await reading
        raise _ClientDisconnected


class _Stream:
    """Body of a reply, written in the sizes of its script."""

    def __init__(self, connection: _Connection, script: Script) -> None:
        self._connection, self._script = connection, script
        self._sizes = cycle(script.write_sizes or (0,))
        self._buffer = b""

    async def begin(self) -> None:
        """Write the response head."""
        framing = "transfer-encoding: chunked" if self._script.is_chunked else "connection: close"
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing}\r\n\r\n"
        await self._connection.send(head.encode())

    async def send(self, *events: bytes) -> None:
        """Write events, or buffer them if the script writes everything at once."""
        for event in events:
            self._buffer += event
            if not self._script.at_once:
                await self.flush()

    async def flush(self) -> None:
        """Write the buffered bytes."""
        while self._buffer:
            size = next(self._sizes) or len(self._buffer)
            part, self._buffer = self._buffer[:size], self._buffer[size:]
            framed = b"%x\r\n%b\r\n" % (len(part), part)
            await self._connection.send(framed if self._script.is_chunked else part)

    async def end(self) -> bool:
        """Write the buffered bytes and the end; return whether the connection can be reused."""
        await self.flush()
        if self._script.is_chunked:
            await self._connection.send(b"0\r\n\r\n")
        return self._script.is_chunked
