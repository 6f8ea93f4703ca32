"""pyproject.toml lists every package, because builds map names to folders and do not follow links."""

import ast
import os
import tomllib
from pathlib import Path

from tests.packaging.installing import CHECKOUT, ROOTS


def packages_in(checkout: Path) -> set[str]:
    """Return the package names of all folders with modules in the packaged folders, except links."""
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


def test_folders_have_at_most_20_modules_and_modules_at_most_400_lines() -> None:
    """See docs/decisions/0015-folders-follow-the-path-of-a-request.md."""
    for root in (*ROOTS, "tests", "tools", "benchmarks", "examples"):
        for folder, _, files in os.walk(CHECKOUT / root):
            modules = [name for name in files if name.endswith(".py")]
            assert len(modules) <= 20, folder
            for name in modules:
                path = Path(folder, name)
                assert path.read_text().count("\n") <= 400, path


def test_public_class_names_are_unique() -> None:
    paths: dict[str, list[str]] = {}
    for root in ROOTS:
        for path in sorted((CHECKOUT / root).rglob("*.py")):
            for statement in ast.parse(path.read_text()).body:
                if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
                    name = str(path.relative_to(CHECKOUT))
                    paths.setdefault(statement.name, []).append(name)
    assert paths["Run"] == ["strategies/api/run.py"]
    assert not {name: found for name, found in paths.items() if len(found) > 1}
