"""A load generator with little CPU use: keep-alive connections whose responses are not parsed."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from statistics import quantiles

DELTA = b'"delta":'
EXCERPT = 300


class BadReply(RuntimeError):
    """A response that is not a 200. The message is the start of the response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests of `clients` concurrent clients to one port, `count` units in total within `seconds`.

    A unit is one request, or `fan` equal concurrent requests on separate connections. It ends with the last response.
    Each client sends its units sequentially, and at least one if `count` suffices. The clients start at even intervals
    over `ramp` seconds, so that they do not send in lockstep.
    """

    port: int
    path: str
    body: object
    clients: int = 1
    count: int = 1
    fan: int = 1
    seconds: float = 1.0
    ramp: float = 0.0

    @property
    def request(self) -> bytes:
        """The request as bytes on the wire."""
        body = json.dumps(self.body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def warmup(self) -> Traffic:
        """Return a small part of the traffic, which opens connections and fills caches."""
        return replace(self, count=min(self.count, max(4, self.clients)))


@dataclass(frozen=True, slots=True)
class Load:
    """Wall time in seconds, latency of each unit in milliseconds, and number of streamed deltas."""

    seconds: float
    latencies: Sequence[float]
    deltas: int

    @property
    def rate(self) -> float:
        """Units per second."""
        return len(self.latencies) / self.seconds

    @property
    def median(self) -> float:
        """Median latency in milliseconds."""
        return self.percentile(50)

    def percentile(self, rank: int) -> float:
        """Latency percentile in milliseconds; `rank` is 1 to 99."""
        if len(self.latencies) < 2:
            return self.latencies[0]
        return quantiles(self.latencies, n=100, method="inclusive")[rank - 1]


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._end: int | None = None
        self._reply: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(
                BadReply(f"the connection was closed before the response was complete: {exc}")
            )

    async def exchange(self, request: bytes) -> bytes:
        """Return the raw response, including its head. Raises BadReply unless it is a 200."""
        self._buffer.clear()
        self._end = None
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        response = await self._reply
        if not response.startswith(b"HTTP/1.1 200"):
            raise BadReply(response[:EXCERPT].decode(errors="replace"))
        return response

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if self._end is None and not self._read_head():
            return
        is_complete = len(buffer) >= self._end if self._end else buffer.endswith(b"\r\n0\r\n\r\n")
        if is_complete and self._reply is not None and not self._reply.done():
            self._reply.set_result(bytes(buffer))

    def _read_head(self) -> bool:
        """Set `_end` to the length of the response, or to 0 if it ends with its last chunk."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        _, _, declared = bytes(self._buffer[:end]).lower().partition(b"\r\ncontent-length:")
        self._end = end + 4 + int(declared.partition(b"\r\n")[0]) if declared else 0
        return True


async def generate(traffic: Traffic) -> Load:
    """Send the traffic and measure it. Raises BadReply for any response that is not a 200."""
    request = traffic.request
    latencies: list[float] = []
    deltas = 0
    left = traffic.count
    latest = math.inf

    async def client(number: int, lines: Sequence[Connection]) -> None:
        nonlocal left, deltas
        await asyncio.sleep(traffic.ramp * number / traffic.clients)
        while left > 0:
            left -= 1
            began = time.perf_counter()
            if len(lines) == 1:
                replies = [await lines[0].exchange(request)]
            else:
                replies = await asyncio.gather(*(line.exchange(request) for line in lines))
            latencies.append((time.perf_counter() - began) * 1e3)
            deltas += sum(reply.count(DELTA) for reply in replies)
            if time.perf_counter() > latest:
                break

    clients = [
        [await _connect(traffic.port) for _ in range(traffic.fan)] for _ in range(traffic.clients)
    ]
    try:
        began = time.perf_counter()
        latest = began + traffic.seconds
        await asyncio.gather(*map(client, count(), clients))
        return Load(time.perf_counter() - began, latencies, deltas)
    finally:
        for line in (line for lines in clients for line in lines):
            line.close()


async def _connect(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection
