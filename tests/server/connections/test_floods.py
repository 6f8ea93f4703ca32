"""Floods of connections and headers against a real process: it stays small, fast and reachable."""

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.http.serving import QUESTION
from tests.polling import wait_until
from tests.server.connections.raw import GET, connect, read_all, read_reply, status_of
from tests.server.test_shutdown import Process, started

pytestmark = pytest.mark.faults

MB = 10**6
LIVE_SECONDS = 0.1
HEADER_TIMEOUT = 3.0


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    flags = ("--header-timeout-seconds", str(HEADER_TIMEOUT))
    with started(tmp_path, *flags, per_token=0.001) as running:
        assert is_answered(running)
        yield running


def port_of(process: Process) -> int:
    return int(process.url.rsplit(":", 1)[1])


def rss(process: Process) -> int:
    """Return the resident memory in bytes."""
    pages = Path(f"/proc/{process.popen.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def cpu_seconds(process: Process) -> float:
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(process: Process) -> int:
    return len(list(Path(f"/proc/{process.popen.pid}/fd").iterdir()))


def livez_seconds(process: Process) -> float:
    """Return the best of three times of `/livez`, on a machine that others use too."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        with connect(port_of(process)) as client:
            client.sendall(GET)
            assert status_of(read_reply(client)) == 200
        times.append(time.monotonic() - began)
    return min(times)


def is_answered(process: Process) -> bool:
    reply = httpx.post(f"{process.url}/solve", json=QUESTION, timeout=20, trust_env=False)
    return reply.status_code == 200


@pytest.mark.parametrize("line", [b"x", b"a: b\r\n"], ids=["one header", "many headers"])
def test_68_megabytes_of_headers_are_refused(process: Process, line: bytes) -> None:
    before = rss(process)
    flood = line * (68 * MB // len(line))
    with connect(port_of(process)) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\na: ")
        sent, reply = 0, b""
        with suppress(ConnectionError):
            while not reply and sent < len(flood):
                sent += client.send(flood[sent : sent + 2**18])
                with suppress(BlockingIOError):
                    reply = client.recv(2**16, socket.MSG_DONTWAIT)
        assert status_of(reply) == 431
    assert sent < 20 * MB
    assert rss(process) - before < 50 * MB
    assert livez_seconds(process) < LIVE_SECONDS
    assert is_answered(process)


def test_1500_half_sent_requests_end(process: Process) -> None:
    before, files = rss(process), open_files(process)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(port_of(process))) for _ in range(1500)]
        for client in clients:
            client.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\na: ")
        assert livez_seconds(process) < LIVE_SECONDS
        assert is_answered(process)
        # A connection stays for the client to read its 408 and to close it, and then ends all the same.
        wait_until(lambda: open_files(process) <= files + 8, HEADER_TIMEOUT + 10)
        assert {status_of(read_all(client)) for client in clients} == {408}
    assert rss(process) - before < 50 * MB
    assert livez_seconds(process) < LIVE_SECONDS


def test_more_connections_than_allowed_leave_room_for_others(tmp_path: Path) -> None:
    with (
        started(tmp_path, "--max-connections", "200", per_token=0.001) as process,
        ExitStack() as stack,
    ):
        for _ in range(1000):
            client = stack.enter_context(connect(port_of(process)))
            client.sendall(b"GET /livez HTTP/1.1\r\na: ")
        assert open_files(process) < 200 + 100
        assert livez_seconds(process) < LIVE_SECONDS
        assert is_answered(process)


def test_a_process_without_files_does_not_spin(process: Process) -> None:
    pid, used = process.popen.pid, open_files(process)
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 10, limits[1]))
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(port_of(process))) for _ in range(100)]
        time.sleep(0.3)
        began, before = time.monotonic(), cpu_seconds(process)
        time.sleep(1)
        assert cpu_seconds(process) - before < 0.5 * (time.monotonic() - began)
        assert len(clients) == 100
    wait_until(lambda: open_files(process) <= used + 1, HEADER_TIMEOUT + 10)
    assert is_answered(process)
