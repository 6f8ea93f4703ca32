"""A service in its own process over a hostile upstream, and the checks after an attack."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from secondpass.service.config.sources import PREFIX
from tests.attacks.replies import answer_42
from tests.engines.upstream import Upstream
from tests.http.upstreams import running
from tests.polling import wait_until
from tools.process_tree import descendants

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
LIVE_SECONDS = 0.1
"""Most seconds that /livez may take after an attack."""

STALL_SECONDS = 1.0
"""Most seconds that /livez may take during an attack, on two cores that the attacker shares."""

RSS_BYTES = 50 * 2**20
"""Most resident memory that an attack may leave behind in the process and its workers."""

SETTLE_SECONDS = 10.0
ENGINE_KEY = "engine-key-0123456789abcdef"
INNOCENT: Json = {"question": "What is 6 times 7?", "strategy": "single"}

_READY = re.compile(r"listening on (http://\S+)")


@dataclass
class Victim:
    """A running service.

    Attributes:
        url: its base URL.
        upstream: the server of its only engine, called `model`; `texts` of `replies` decide what the engine generates.
        log: lines that it logged.
        key: API key of a tenant; None for a service without keys.
    """

    popen: subprocess.Popen[str]
    upstream: Upstream
    key: str | None = None
    url: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        url = httpx.URL(self.url)
        return url.host, url.port or 80

    @property
    def headers(self) -> dict[str, str]:
        """Headers of an innocent request."""
        return {} if self.key is None else {"authorization": f"Bearer {self.key}"}

    def client(self, **more: Any) -> httpx.Client:
        """Return a client of an innocent caller."""
        headers = self.headers | more.pop("headers", {})
        return httpx.Client(
            base_url=self.url, timeout=60, trust_env=False, verify=False, headers=headers, **more
        )

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(self.address, timeout=30)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        """Send one request on its own connection."""
        with self.client() as client:
            return client.post(path, json=body, **more)

    def rss(self) -> int:
        """Resident bytes of the process and all its children."""
        return sum(_rss(pid) for pid in (self.popen.pid, *descendants(self.popen.pid)))

    def peak(self) -> int:
        """Largest resident bytes of the process itself so far."""
        return _status(self.popen.pid, "VmHWM")

    @contextmanager
    def sampled(self, into: list[int]) -> Iterator[None]:
        """Append the resident bytes of all processes to `into`, every 20 ms, until the block ends."""
        is_over = threading.Event()

        def sample() -> None:
            while not is_over.wait(0.02):
                into.append(self.rss())

        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        try:
            yield
        finally:
            is_over.set()
            sampler.join(10)

    def is_live(self, within: float) -> bool:
        """Return whether /livez answers in time on a new connection."""
        began = time.monotonic()
        with contextlib.suppress(OSError), self.connect() as client:
            client.settimeout(max(within, 0.05))
            client.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return client.recv(12) == b"HTTP/1.1 200" and time.monotonic() - began <= within
        return False


@contextmanager
def victim(
    folder: Path, /, *, keys: dict[str, str] | None = None, **settings: Any
) -> Iterator[Victim]:
    """Serve in a process over an upstream in this one.

    Args:
        folder: where the settings are written.
        keys: API keys by tenant; None for a service without keys.
        settings: settings of the service.
    """
    with running(Upstream()) as upstream:
        config = folder / "secondpass.toml"
        config.write_text(_config(upstream, folder, keys, settings))
        environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        command = [sys.executable, "-m", "secondpass.service", "serve", "--port", "0"]
        with subprocess.Popen(
            [*command, "--config", str(config)],
            cwd=ROOT,
            env=environment | {"ENGINE_KEY": ENGINE_KEY},
            stderr=subprocess.PIPE,
            text=True,
        ) as popen:
            attacked = Victim(popen, upstream, next(iter((keys or {}).values()), None))
            try:
                _await_start(attacked)
                yield attacked
            finally:
                popen.kill()


@contextmanager
def attack(attacked: Victim, *, stall: float = STALL_SECONDS) -> Iterator[None]:
    """Assert that the attack in the block leaves the service as it was.

    While it lasts /livez answers within `stall` seconds. Afterwards it answers within 100 ms, memory returns to within
    50 MB of what it was, and an innocent question is answered.
    """
    with attacked.client() as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, reason="it is not ready")
    innocent(attacked)
    before = attacked.rss()
    with _watched(attacked) as pauses:
        yield
    assert attacked.popen.poll() is None, "the process has ended"
    wait_until(lambda: attacked.is_live(LIVE_SECONDS), SETTLE_SECONDS, "/livez does not answer")
    assert any(attacked.is_live(LIVE_SECONDS) for _ in range(3)), "/livez takes over 100 ms"
    wait_until(
        lambda: attacked.rss() - before < RSS_BYTES,
        SETTLE_SECONDS,
        f"RSS was {before >> 20} MB before the attack",
        every=0.05,
    )
    innocent(attacked)
    assert max(pauses, default=0.0) < stall, "the service did not answer while it was attacked"


def innocent(attacked: Victim) -> None:
    """Assert that an ordinary question is answered."""
    chat, attacked.upstream.chat = attacked.upstream.chat, answer_42
    try:
        reply = attacked.post("/solve", INNOCENT)
        assert reply.status_code == 200, reply.text
        assert "42" in reply.json()["text"]
    finally:
        attacked.upstream.chat = chat


@contextmanager
def _watched(attacked: Victim) -> Iterator[list[float]]:
    """Yield the list of the times that /livez took during the block, in seconds."""
    pauses: list[float] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            began = time.monotonic()
            attacked.is_live(30.0)
            pauses.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield pauses
    finally:
        is_over.set()
        watcher.join(60)


def _await_start(attacked: Victim) -> None:
    stderr = attacked.popen.stderr
    assert stderr is not None
    for line in stderr:
        attacked.log.append(line)
        if found := _READY.search(line):
            attacked.url = found.group(1)
            break

    def collect() -> None:
        attacked.log.extend(iter(stderr.readline, ""))

    threading.Thread(target=collect, daemon=True).start()
    with attacked.client() as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, 30)
    for _ in range(3):  # modules that the first requests import stay in memory
        innocent(attacked)


def _config(upstream: Upstream, folder: Path, keys: dict[str, str] | None, settings: Json) -> str:
    lines = []
    if keys:
        path = folder / "keys"
        path.write_text("".join(f"{n}:{sha256(k.encode()).hexdigest()}\n" for n, k in keys.items()))
        lines.append(f"api_keys_file = {json.dumps(str(path))}")
    lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    lines += ["[engines.main]", 'kind = "http"', f'url = "{upstream.url}"', 'model = "model"']
    return "\n".join([*lines, 'key_env = "ENGINE_KEY"', ""])


def _rss(pid: int) -> int:
    return _status(pid, "VmRSS")


def _status(pid: int, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0
