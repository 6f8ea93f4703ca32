"""A background task with a defect ends the process; a defect of a health check does not."""

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
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.server import lifespan
from tests.engines.upstream import Upstream, refuses
from tests.http.serving import serving
from tests.http.upstreams import running
from tests.polling import wait_until

ROOT = Path(__file__).parents[2]
EXIT_SECONDS = 60
DEFECT = """
    import sys
    from secondpass.service.equivalence.checker import Equivalence

    async def warm(self):
        raise ZeroDivisionError("a defect")

    Equivalence.warm = warm
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
    assert "'answer comparison' failed" in ended.stderr
    assert "ZeroDivisionError: a defect" in ended.stderr


@pytest.mark.parametrize("defect", [AssertionError("a defect"), RuntimeError(), MemoryError()])
def test_a_defect_of_a_health_check_ends_neither_the_process_nor_later_checks(
    defect: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One engine's defect leaves the others in service, is logged once a minute, and heals."""
    monkeypatch.setattr(lifespan, "RETRY_SECONDS", 0.01)
    checks = 0

    async def fail(_: object) -> None:
        nonlocal checks
        checks += 1
        raise defect

    engines = {
        "default": {"kind": "scripted"},
        "other": {"kind": "http", "url": "http://127.0.0.1:9/v1", "model": "m"},
    }
    with monkeypatch.context() as broken:
        broken.setattr(HttpEngine, "_probe_server", fail)
        with serving(
            engine=None, engines=engines, roles={"actor": "default", "judge": "other"}
        ) as served:
            wait_until(lambda: checks > 5)
            assert served.get("/livez").status_code == 200
            assert served.solve().status_code == 200
            assert "judge: engine 'other': the health check failed by a defect" in str(
                served.service.not_ready()
            )
            records = [
                each for each in caplog.records if "by a defect" in each.message and each.exc_info
            ]
            assert len(records) == 1
            broken.undo()
            wait_until(lambda: "Cannot connect" in str(served.service.not_ready()))


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
            lambda: not re.search("not probed yet|no response yet", str(served.service.not_ready()))
        )
        assert served.get("/livez").status_code == 200
        ready = served.get("/readyz")
        assert ready.status_code == 503
        assert len(str(served.service.not_ready())) < 1000
        if kind == "http":
            upstream.routes = {}
            wait_until(lambda: served.get("/readyz").status_code == 200)
        assert served.get("/livez").status_code == 200
