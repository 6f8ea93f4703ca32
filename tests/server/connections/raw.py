"""Raw connections to a server, and a server of any application."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp

from secondpass.service.common.uploads import Uploads
from secondpass.service.http.state import RequestTracker
from secondpass.service.server.server import Server, http_config
from tests.http.serving import settings_of
from tests.polling import wait_until

GET = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
CHUNKED = (
    b"POST /solve HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes the connection. A reset is an error."""
    received = b""
    while data := client.recv(2**16):
        received += data
    return received


def read_reply(client: socket.socket) -> bytes:
    """Read one reply with a `content-length`."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = client.recv(2**16)
        assert data, received
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        data = client.recv(2**16)
        assert data, received
        received, body = received + data, body + data
    return received


def exchange(port: int, *parts: bytes, gap: float = 0.0) -> bytes:
    """Send the parts with a pause after each, and return all that the server sends until it closes."""
    with connect(port) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(gap)
        return read_all(client)


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1]) if reply else 0


@contextmanager
def serving_app(app: ASGIApp, **settings: Any) -> Iterator[Server]:
    """Run a server of `app` in a thread for the duration of the block."""
    chosen = settings_of(engine="scripted", port=0, **settings)
    config = http_config(app, chosen, close_seconds=1)
    server = Server(config, RequestTracker(1, Uploads()), 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(10)


def port_of(server: Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port
