"""What a wheel of this checkout holds, and what it may be imported as."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

import secondpass

pytestmark = pytest.mark.compat

CHECKOUT = Path(__file__).resolve().parents[2]
PARTS = ("service", "strategies")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built: a build leaves files beside its sources, and reads those of earlier ones."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    for name in ("secondpass", *PARTS):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, copy / name, symlinks=True, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    into = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", *OFFLINE, "--wheel-dir", into, source], check=True)
    (path,) = into.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def imported(module: str, site: Path) -> "subprocess.CompletedProcess[str]":
    """Import `module` in a fresh interpreter, elsewhere, with `site` as one more site-packages."""
    # -S, and packages by their path alone: an editable install of this environment would answer first.
    packages = sysconfig.get_path("purelib")
    code = (
        f"import site, sys; site.addsitedir({str(site)!r}); sys.path.append({packages!r});"
        f"import {module} as m; print(m.__file__)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, cwd=site, capture_output=True, text=True, check=False)


def test_a_wheel_holds_every_module_and_prompt_below_one_name(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}

    written = {
        f"secondpass/{path.relative_to(CHECKOUT).as_posix()}"
        for part in PARTS
        for pattern in ("*.py", "*.txt")
        for path in (CHECKOUT / part).rglob(pattern)
    }
    assert packed == written | {"secondpass/__init__.py", "secondpass/py.typed"}


def test_a_wheel_carries_the_version_the_license_and_the_command(wheel: zipfile.ZipFile) -> None:
    (info,) = {PurePosixPath(name).parts[0] for name in wheel.namelist() if ".dist-info/" in name}

    assert info == f"secondpass-{secondpass.__version__}.dist-info"
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert b"secondpass = secondpass.service.__main__:main" in wheel.read(
        f"{info}/entry_points.txt"
    )


@pytest.mark.parametrize("part", PARTS)
def test_the_folders_import_only_below_secondpass(
    part: str, wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path)

    below = imported(f"secondpass.{part}", tmp_path)
    assert Path(below.stdout.strip()) == tmp_path / "secondpass" / part / "__init__.py", (
        below.stderr
    )
    assert f"No module named '{part}'" in imported(part, tmp_path).stderr


@pytest.mark.parametrize("part", PARTS)
def test_an_editable_install_imports_the_same_names(
    part: str, source: Path, tmp_path: Path
) -> None:
    subprocess.run(
        [*PIP, "install", *OFFLINE, "--ignore-installed", "--prefix", tmp_path, "-e", source],
        check=True,
    )
    (site,) = tmp_path.glob("lib/python*/site-packages")

    below = imported(f"secondpass.{part}", site)
    assert Path(below.stdout.strip()) == source / "secondpass" / part / "__init__.py", below.stderr
    assert f"No module named '{part}'" in imported(part, site).stderr
