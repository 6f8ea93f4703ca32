"""Strangers cannot fill the log of a real process."""

from __future__ import annotations

import hashlib
import socket
import sys
from pathlib import Path

import httpx
import pytest

from tools.processes import free_port, serving

pytestmark = pytest.mark.faults

SENT = 200


def test_invalid_requests_disconnects_and_unknown_keys_write_few_lines(tmp_path: Path) -> None:
    keys, log, port = tmp_path / "keys", tmp_path / "log", free_port()
    keys.write_text(f"ali:{hashlib.sha256(b'sesame').hexdigest()}\n")
    command = [sys.executable, "-m", "secondpass.service", "serve", "--port", str(port)]
    command += ["--engine", "scripted", "--api-keys-file", str(keys)]
    url = f"http://127.0.0.1:{port}"
    head = b"POST /solve HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sesame\r\n"
    body = b"content-type: application/json\r\ncontent-length: 9\r\n\r\n{"
    with (
        serving("secondpass", command, f"{url}/readyz", log, timeout=60),
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        for _ in range(SENT):
            for raw in (b"\x16\x03\x01 not http\r\n\r\n", head + body):
                with socket.create_connection(("127.0.0.1", port)) as stranger:
                    stranger.sendall(raw)
            client.get("/strategies", headers={"authorization": "Bearer \x1b[2Jguess"})
        assert client.get("/livez").is_success
        lines = log.read_text().splitlines()
    assert sum("nvalid HTTP" in line for line in lines) <= 10
    assert sum("499" in line for line in lines) <= 10
    assert sum("unknown API key" in line for line in lines) <= 2
    assert len(lines) < 40
    assert not any("guess" in line or "\x1b" in line for line in lines)
