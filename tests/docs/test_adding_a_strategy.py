"""The strategies in docs/adding-a-strategy.md are whole ones: they are served as they stand there and keep the contract."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from secondpass.strategies.api.entry_points import GROUP
from tests.cli.running import ROOT, surroundings

PAGE = ROOT / "docs" / "adding-a-strategy.md"
ADDS_PROMPTS = """
import importlib.resources

from secondpass.strategies.prompts import add_prompts

add_prompts(importlib.resources.files(__package__) / "prompts")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH that holds `my_package`, with the strategies, the prompt and the entry point of the page."""
    page = PAGE.read_text()
    examples = re.findall(r"```python\n(.*?@strategy.*?)```", page, re.DOTALL)
    (prompt,) = re.findall(r"`(\w+\.txt)`:\n\n```text\n(.*?)```", page, re.DOTALL)
    (declared,) = re.findall(rf'\[project\.entry-points\."{GROUP}"\]\n(.*?)\n\n', page, re.DOTALL)
    folder = tmp_path / "my_package"
    (folder / "prompts").mkdir(parents=True)
    (folder / "__init__.py").write_text(ADDS_PROMPTS)
    (folder / "prompts" / prompt[0]).write_text(prompt[1])
    names = [re.findall(r'@strategy\("(\w+)"', example)[0] for example in examples]
    assert names == ["first_agreement", "best_judged"]
    for name, example in zip(names, examples, strict=True):
        (folder / f"{name}.py").write_text(example)
    assert declared == 'best_judged = "my_package.best_judged"'
    entries = "".join(f"{name} = my_package.{name}\n" for name in names)
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}")
    return tmp_path


@pytest.mark.compat
@pytest.mark.parametrize("name", ["first_agreement", "best_judged"])
def test_the_examples_keep_the_contract_every_time(package: Path, name: str) -> None:
    options = ["-p", "secondpass.testing", "--strategy", name, "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *options]
    env = surroundings(PYTHONPATH=f"{package}:{ROOT}")
    for _ in range(3):
        run = subprocess.run(
            [*command, "--pyargs", "secondpass.testing.suite"],
            cwd=package,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr
        assert " passed in " in run.stdout


def test_the_examples_are_formatted_and_linted_as_the_strategies_are(package: Path) -> None:
    ruff = [sys.executable, "-m", "ruff"]
    config = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]
    files = sorted(str(path) for path in package.glob("my_package/*_*.py") if "__" not in path.name)
    assert len(files) == 2
    for command in (["format", "--check", "--diff"], ["check", "--ignore", "INP001"]):
        run = subprocess.run(
            [*ruff, *command, *config, *files], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
