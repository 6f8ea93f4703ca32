"""Fixtures for tests of settings: no SECONDPASS_* variables, and a path for a settings file."""

import os
from pathlib import Path

import pytest

from secondpass.service.config.sources import PREFIX


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secondpass.toml"
