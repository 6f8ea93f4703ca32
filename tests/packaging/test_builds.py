"""Contents and import names of wheels, sdists and editable installs, with and without symbolic links."""

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import httpx
import pytest

import secondpass
from tests.packaging.installing import (
    CHECKOUT,
    OFFLINE,
    PARTS,
    ROOTS,
    copied,
    environment,
    pip,
    without_links,
)
from tools.processes import free_port, serving

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources of a build."""
    return copied(tmp_path_factory.mktemp("source"))


def wheel_of(source: Path, into: Path) -> Path:
    pip("wheel", *OFFLINE, "--wheel-dir", into, source)
    (path,) = into.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(wheel_of(source, tmp_path_factory.mktemp("wheel"))) as archive:
        yield archive


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("sdist")
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(into)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, check=True)
    (path,) = into.glob("*.tar.gz")
    return path


def import_in_subprocess(module: str, site: Path) -> "subprocess.CompletedProcess[str]":
    """Import `module` in a new interpreter with `site` as an additional site-packages folder."""
    # -S, because an editable install in this environment would take precedence.
    packages = sysconfig.get_path("purelib")
    code = (
        f"import site, sys; site.addsitedir({str(site)!r}); sys.path.append({packages!r});"
        f"import {module} as m; print(m.__file__)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, cwd=site, capture_output=True, text=True, check=False)


def expected_files() -> set[str]:
    """Return the paths in a wheel of all files that belong to it."""
    return {
        "/".join((*package.split("."), path.relative_to(CHECKOUT / root).as_posix()))
        for root, package in ROOTS.items()
        for pattern in ("*.py", "*.txt", "*.toml", "py.typed")
        for path in (CHECKOUT / root).rglob(pattern)
        if not any(parent.is_symlink() for parent in path.parents)
    }


def files_in(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_wheel_contains_every_module_and_prompt(wheel: zipfile.ZipFile) -> None:
    assert files_in(wheel) == expected_files()


@pytest.mark.parametrize("as_text", [False, True], ids=["deleted", "as text files"])
def test_wheel_is_the_same_without_links(as_text: bool, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source = without_links(copied(tmp_path / "source"), as_text=as_text)
    with zipfile.ZipFile(wheel_of(source, tmp_path / "wheel")) as archive:
        assert files_in(archive) == expected_files()


def test_wheel_contains_version_license_and_command(wheel: zipfile.ZipFile) -> None:
    (info,) = {PurePosixPath(name).parts[0] for name in wheel.namelist() if ".dist-info/" in name}

    assert info == f"secondpass-{secondpass.__version__}.dist-info"
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert b"secondpass = secondpass.service.__main__:main" in wheel.read(
        f"{info}/entry_points.txt"
    )


def test_sdist_contains_the_sources_and_no_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names} - {""}
    assert tops == {
        *("LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"),
        *("secondpass", "secondpass.egg-info", *PARTS),
    }


def test_installed_sdist_serves_outside_the_checkout(sdist: Path, tmp_path: Path) -> None:
    commands = environment(tmp_path / "venv", sdist)
    # -I ignores the current folder and PYTHONPATH, which may contain the checkout.
    python, port = [str(commands / "python"), "-I"], free_port()
    where = [*python, "-c", "import secondpass.service as s; print(s.__file__)"]
    file = subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(file).is_relative_to(tmp_path / "venv")

    engine = ["--engine", "scripted", "--model", "scripted", "--port", str(port)]
    command = [*python, str(commands / "secondpass"), "serve", *engine]
    url = f"http://127.0.0.1:{port}"
    with serving("secondpass", command, f"{url}/readyz", tmp_path / "log", timeout=60):
        body = {"question": "What is 6 times 7?", "task": {"kind": "math"}}
        reply = httpx.post(f"{url}/solve", json=body, trust_env=False, timeout=20)
    assert (reply.status_code, reply.json()["answer"]) == (200, "42")


@pytest.mark.parametrize("part", PARTS)
def test_parts_import_only_as_subpackages_of_secondpass(
    part: str, wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path)

    below = import_in_subprocess(f"secondpass.{part}", tmp_path)
    assert Path(below.stdout.strip()) == tmp_path / "secondpass" / part / "__init__.py", (
        below.stderr
    )
    assert f"No module named '{part}'" in import_in_subprocess(part, tmp_path).stderr


@pytest.mark.parametrize("links", ["kept", "deleted", "as text files"])
def test_editable_install_has_the_same_import_names(links: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source = copied(tmp_path / "source")
    if links != "kept":
        without_links(source, as_text=links == "as text files")
    pip("install", *OFFLINE, "--ignore-installed", "--prefix", tmp_path, "-e", source)
    (site,) = tmp_path.glob("lib/python*/site-packages")

    for part in PARTS:
        below = import_in_subprocess(f"secondpass.{part}", site)
        file = Path(below.stdout.strip()).resolve()
        assert file == source / part / "__init__.py", below.stderr
        assert f"No module named '{part}'" in import_in_subprocess(part, site).stderr


@pytest.mark.parametrize("as_text", [False, True], ids=["deleted", "as text files"])
def test_checkout_without_links_reports_the_remedy(as_text: bool, tmp_path: Path) -> None:
    without_links(copied(tmp_path), as_text=as_text)

    assert import_in_subprocess("secondpass", tmp_path).returncode == 0
    for part in PARTS:
        stderr = import_in_subprocess(f"secondpass.{part}", tmp_path).stderr
        assert stderr.splitlines()[-1] == (
            f"ImportError: secondpass.{part} was not found: this checkout lacks the symbolic link secondpass/{part}. "
            "Install the checkout (pip install -e .), or restore the links "
            "(git config core.symlinks true && git checkout -- secondpass)"
        )


def test_checkout_with_links_adds_no_finder(source: Path) -> None:
    code = "import sys, secondpass; print([type(finder).__name__ for finder in sys.meta_path])"
    command = [sys.executable, "-S", "-c", code]
    finders = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    assert "_MissingLink" not in finders.stdout
