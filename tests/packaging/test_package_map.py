"""pyproject.toml lists every package: builds map names to folders, and follow no links."""

import ast
import os
import tomllib
from pathlib import Path

from tests.packaging.installing import CHECKOUT, ROOTS


def packages_in(checkout: Path) -> set[str]:
    """Every folder with modules below the packaged ones, links aside, by its name as a package."""
    found = set()
    for root, package in ROOTS.items():
        for folder, _, files in os.walk(checkout / root):
            if any(name.endswith(".py") for name in files):
                below = Path(folder).relative_to(checkout / root).parts
                found.add(".".join((package, *below)))
    return found


def test_every_package_is_listed_in_pyproject() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    listed, found = set(project["tool"]["setuptools"]["packages"]), packages_in(CHECKOUT)
    missing, stale = sorted(found - listed), sorted(listed - found)
    assert not missing, f"add to packages in [tool.setuptools] of pyproject.toml: {missing}"
    assert not stale, f"delete from packages in [tool.setuptools] of pyproject.toml: {stale}"


def test_no_folder_has_over_20_modules_and_no_module_over_400_lines() -> None:
    """The limits of decision 15."""
    for root in (*ROOTS, "tests", "tools", "benchmarks", "examples"):
        for folder, _, files in os.walk(CHECKOUT / root):
            modules = [name for name in files if name.endswith(".py")]
            assert len(modules) <= 20, folder
            for name in modules:
                path = Path(folder, name)
                assert path.read_text().count("\n") <= 400, path


def test_no_two_public_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for root in ROOTS:
        for path in sorted((CHECKOUT / root).rglob("*.py")):
            for statement in ast.parse(path.read_text()).body:
                if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
                    name = str(path.relative_to(CHECKOUT))
                    places.setdefault(statement.name, []).append(name)
    assert places["Run"] == ["strategies/api/run.py"]
    assert not {name: found for name, found in places.items() if len(found) > 1}
