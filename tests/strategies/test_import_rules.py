"""Import rules of pyproject.toml: strategies and their shared modules import no strategy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import ROOT, surroundings

LINT = "import sys; from importlinter.cli import lint_imports_command as run; sys.argv[1:] = ['--no-cache']; run()"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy of the files that lint-imports reads."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("secondpass", "service", "strategies"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=ignored)
    return tmp_path


def lint(checkout: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=checkout,
        env=surroundings(PYTHONPATH=str(checkout)),
        capture_output=True,
        text=True,
        check=False,
    )


def add(checkout: Path, path: str, line: str) -> None:
    with (checkout / path).open("a") as file:
        file.write(f"\n{line}\n")


def test_a_new_strategy_needs_no_entry_in_pyproject(checkout: Path) -> None:
    add(checkout, "strategies/zz_new.py", "import secondpass.strategies.refining.retries")
    add(checkout, "strategies/__init__.py", "import secondpass.strategies.zz_new")
    result = lint(checkout)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("strategies/single.py", "import secondpass.strategies.self_prm"),
        ("strategies/zz_new.py", "import secondpass.strategies.single"),
        ("strategies/voting/vote.py", "import secondpass.strategies.single"),
        ("strategies/api/table.py", "from secondpass.strategies import STRATEGIES"),
        ("strategies/refining/revise.py", "import secondpass.strategies.zz_new"),
        ("strategies/voting/vote.py", "import secondpass.strategies.refining.retries"),
    ],
)
def test_an_import_that_violates_the_rules_is_an_error(
    checkout: Path, path: str, line: str
) -> None:
    add(checkout, "strategies/zz_new.py", "")
    add(checkout, path, line)
    result = lint(checkout)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout
