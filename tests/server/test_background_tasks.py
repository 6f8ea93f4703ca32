"""A background task with a defect ends the process; a malformed reply of an engine does not."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from secondpass.service.config.sources import PREFIX
from tests.engines.upstream import Upstream, refuses
from tests.http.serving import serving
from tests.http.upstreams import running
from tests.polling import wait_until

ROOT = Path(__file__).parents[2]
EXIT_SECONDS = 60
DEFECT = """
    import sys
    from secondpass.service.engines.scripted.engine import ScriptedEngine

    async def start(self):
        raise ZeroDivisionError("a defect")

    ScriptedEngine.start = start
"""
SERVE = """
    from secondpass.service.server.serve import serve

    sys.exit(serve(["--engine", "scripted", "--port", "0"]))
"""
UVICORN = """
    import uvicorn
    from secondpass.service.config.settings import Settings
    from secondpass.service.server.app import create_app

    uvicorn.run(create_app(Settings(engine="scripted")), port=0)
"""


@pytest.mark.parametrize(("program", "code"), [(SERVE, 1), (UVICORN, -signal.SIGTERM)])
def test_a_background_task_with_a_defect_ends_the_process_and_is_logged(
    program: str, code: int
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DEFECT) + textwrap.dedent(program)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=EXIT_SECONDS,
    )
    assert ended.returncode == code, ended.stderr
    assert "health check of engine 'default'" in ended.stderr
    assert "ZeroDivisionError: a defect" in ended.stderr


def test_a_dead_background_task_is_reported_by_both_probes() -> None:
    with serving() as served:
        assert served.get("/livez").status_code == 200
        served.service.background.failed_task = "health check"
        live, ready = served.get("/livez"), served.get("/readyz")
    assert (live.status_code, ready.status_code) == (503, 503)
    assert "'health check' failed" in live.text
    assert "'health check' failed" in ready.text


MALFORMED = [
    b"",
    b"null",
    b"[]",
    b"[7]",
    b'{"data": null}',
    b'{"data": [{}]}',
    b'{"data": [{"id": 7}]}',
    b'{"data": [{"id": null}]}',
    b'{"data": [null]}',
    b'{"data": {"id": "model"}}',
    b'{"error": {"code": Infinity}}',
    b"[" * 100_000,
    b'{"data": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"data": "' + b"x" * 10_000_000 + b'"}',
    b"\xff\xfe",
    b"<html>",
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running(Upstream()) as served:
        yield served


CASES = [("http", reply) for reply in MALFORMED] + [("pooling", reply) for reply in MALFORMED[::4]]


@pytest.mark.parametrize(("kind", "reply"), CASES, ids=range(len(CASES)))
def test_a_malformed_list_of_models_delays_readiness_until_the_server_recovers(
    kind: str, reply: bytes, upstream: Upstream
) -> None:
    async def malformed(_: web.Request, __: object) -> web.Response:
        return web.Response(body=reply, content_type="application/json")

    upstream.routes = {"/v1/models": malformed}
    settings: dict[str, Any] = {"engine": "http", "engine_url": upstream.url, "model": "model"}
    if kind == "pooling":
        upstream.routes["/classify"] = refuses(404, {})
        engines = {
            "default": {"kind": "scripted"},
            "rm": {"kind": "pooling", "url": upstream.url, "model": "model"},
        }
        settings = {
            "engine": None,
            "engines": engines,
            "roles": {"actor": "default", "reward": "rm"},
        }
    with serving(**settings) as served:
        wait_until(
            lambda: not re.search("not probed yet|no response yet", served.get("/readyz").text)
        )
        assert served.get("/livez").status_code == 200
        ready = served.get("/readyz")
        assert ready.status_code == 503
        assert len(ready.text) < 1000
        if kind == "http":
            upstream.routes = {}
            wait_until(lambda: served.get("/readyz").status_code == 200)
        assert served.get("/livez").status_code == 200
