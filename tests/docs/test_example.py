"""The strategy in docs/architecture.md is a whole one: served as it stands there, and covered by the contract."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from secondpass.strategies.api.entry_points import GROUP
from tests.cli.running import ROOT, surroundings

PAGE = ROOT / "docs" / "architecture.md"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH that holds `my_package`, with the example and the entry point of the page."""
    page = PAGE.read_text()
    (example,) = re.findall(r"```python\n(.*?@strategy.*?)```", page, re.DOTALL)
    (declared,) = re.findall(rf'\[project\.entry-points\."{GROUP}"\]\n(.*?)\n\n', page, re.DOTALL)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "best_by_length.py").write_text(example)
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    entry = declared.replace('"', "")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry}\n")
    return tmp_path


@pytest.mark.compat
def test_the_example_passes_the_contract_every_time(package: Path) -> None:
    options = ["-p", "secondpass.testing", "--strategy", "best_by_length", "-p", "no:cacheprovider"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *options,
        "--pyargs",
        "secondpass.testing.suite",
    ]
    env = surroundings(PYTHONPATH=f"{package}:{ROOT}")
    for _ in range(3):
        run = subprocess.run(
            command, cwd=package, env=env, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr
        assert " passed in " in run.stdout


def test_the_example_is_formatted_and_linted_as_the_strategies_are(package: Path) -> None:
    ruff = [sys.executable, "-m", "ruff"]
    config = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]
    file = package / "my_package" / "best_by_length.py"
    for command in (["format", "--check"], ["check", "--ignore", "INP001"]):
        run = subprocess.run(
            [*ruff, *command, *config, str(file)], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
