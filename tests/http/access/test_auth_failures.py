"""Refused API keys are counted by reason and reported once a minute, without the key."""

import hashlib
import logging
from pathlib import Path

import pytest

from secondpass.service.common.errors import Unauthorized
from secondpass.service.http.access.auth_failures import FAILURE_LINE_SECONDS, AuthFailures
from tests.http.serving import serving


def test_refused_keys_are_counted_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"ali:{hashlib.sha256(b'sesame').hexdigest()}\n")
    with serving(api_keys_file=keys) as served, caplog.at_level(logging.INFO):
        for number in range(30):
            guess = {"authorization": f"Bearer guess-{number}"}
            assert served.get("/strategies", headers=guess).status_code == 401
        assert served.get("/strategies").status_code == 401
        assert served.get("/livez").status_code == 200
        assert served.get("/strategies", headers={"authorization": "Bearer sesame"}).is_success
        metrics = served.get("/metrics").text
    assert 'secondpass_auth_failures_total{reason="unknown"} 30.0' in metrics
    assert 'secondpass_auth_failures_total{reason="missing"} 1.0' in metrics
    lines = [each.getMessage() for each in caplog.records if "API key" in each.getMessage()]
    assert lines == ["requests with a missing or unknown API key: 1; the last came from 127.0.0.1"]
    assert "guess" not in caplog.text


def test_the_next_line_reports_all_refusals_since_the_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    counted: list[str] = []
    failures = AuthFailures(counted.append, lambda: now)
    error = Unauthorized("no", reason="unknown")
    with caplog.at_level(logging.INFO):
        for second in range(181):
            now = float(second)
            failures.record(error, {"client": ("a\nb\x1b[2J", 1)})
    assert FAILURE_LINE_SECONDS == 60
    assert [each.args[0] for each in caplog.records if isinstance(each.args, tuple)] == [
        1,
        60,
        60,
        60,
    ]
    assert all("\n" not in line and "\x1b" not in line for line in caplog.messages)
    assert counted == ["unknown"] * 181
