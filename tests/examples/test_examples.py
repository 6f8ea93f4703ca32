"""The strategies in `src` are written from docs/adding-a-strategy.md and pass the contract tests."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from secondpass.strategies.api.entry_points import GROUP
from tests.cli.running import ROOT, surroundings

SOURCE = ROOT / "tests" / "examples" / "src"
NAMES = ("pairwise_tournament", "step_beam_search")
MAX_LINES = 80


def tree_of(name: str) -> ast.Module:
    return ast.parse((SOURCE / "examples_of_strategies" / f"{name}.py").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_short_and_have_no_except_clause(name: str) -> None:
    tree = tree_of(name)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    parts = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [node for node in tree.body if isinstance(node, parts)]
    counted = [node for node in found if node.name == name or node.name.startswith("_")]
    assert len(counted) > 1, "expected the strategy and its helpers"
    assert sum((node.end_lineno or 0) - node.lineno + 1 for node in counted) < MAX_LINES


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PYTHONPATH folder that declares the examples as strategies of a distribution."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "examples-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
    entries = "".join(f"{name} = examples_of_strategies.{name}\n" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}")
    return folder


def run_pytest(installed: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    env = surroundings(PYTHONPATH=f"{installed}:{SOURCE}:{ROOT}")
    run = subprocess.run(
        command, cwd=installed, env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr
    assert " passed in " in run.stdout


def test_examples_behave_as_described(installed: Path) -> None:
    run_pytest(installed, str(SOURCE / "test_behaviour.py"), "--rootdir", str(SOURCE))


def run_contract_tests(installed: Path, name: str) -> None:
    plugin = ["-p", "secondpass.testing", "--strategy", name]
    run_pytest(installed, *plugin, "--pyargs", "secondpass.testing.suite")


@pytest.mark.compat
@pytest.mark.parametrize("name", NAMES)
def test_examples_pass_the_contract_tests_repeatedly(installed: Path, name: str) -> None:
    for _ in range(3):
        run_contract_tests(installed, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_examples_pass_the_contract_tests_twenty_times(installed: Path, name: str) -> None:
    for _ in range(20):
        run_contract_tests(installed, name)
