"""The service on a real socket, over a scripted engine that tests can inspect."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import httpx

from secondpass.service.config.settings import Settings
from secondpass.service.config.sources import PREFIX
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.http.state import Service
from secondpass.service.server.app import InProcessEngines, create_app, service_in
from secondpass.service.server.server import Server, http_config
from tests.polling import wait_until

Json = dict[str, Any]
QUESTION: Json = {"question": "What is 6 times 7?"}


@dataclass(frozen=True)
class Served:
    """A running service with its engine and port."""

    service: Service
    engine: ScriptedEngine
    server: Server
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **more: Any) -> httpx.Client:
        # verify=False: httpx would otherwise load all certificates for each client.
        return httpx.Client(base_url=self.url, timeout=20, trust_env=False, verify=False, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        with self.client() as client:
            return client.get(path, **more)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json=body, **more)

    def solve(self, **fields: Any) -> httpx.Response:
        return self.post("/solve", QUESTION | fields)

    def open(self, path: str, body: Json) -> socket.socket:
        """Send a request and return the open, unread socket."""
        raw = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw)
        return client


@contextmanager
def serving(scripted: ScriptedEngine | None = None, /, **settings: Any) -> Iterator[Served]:
    """Run the service in a thread for the duration of the block."""
    engine = scripted or ScriptedEngine()
    chosen = settings_of(
        **{"engine": "scripted", "port": 0, "shutdown_grace_seconds": 0} | settings
    )
    table = chosen.engine_tables.get("default")
    is_scripted = table is not None and table.kind == "scripted"
    app = create_app(chosen, InProcessEngines({"default": engine}) if is_scripted else None)
    service = service_in(app)
    config = http_config(app, chosen, close_seconds=2)
    server = Server(config, service.traffic, chosen.shutdown_grace_seconds)
    thread = threading.Thread(target=server.run)
    with patch.object(Equivalence, "warm", _skip_warm_up):
        thread.start()
        wait_until(lambda: server.started)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(service, engine, server, port)
    finally:
        server.should_exit = True
        thread.join(10)
    assert not engine.running


async def _skip_warm_up(_: Equivalence) -> None:
    """Skip the warm-up: most tests compare no answers that need a worker process."""


def settings_of(**values: Any) -> Settings:
    """Build settings that ignore the environment."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    with patch.dict(os.environ, environment, clear=True):
        return Settings(**values)


def events_of(text: str) -> list[tuple[str, int, Json]]:
    """Return the name, id and data of each server-sent event, without comments."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if fields:
            events.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
    return events
