"""Locks written by the real uv from a folder of wheels instead of an index."""

import re
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from tools import lock

pytestmark = pytest.mark.compat

NAME, VERSIONS = "wanted", ("1.0", "1.1")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two versions of a package, the only source of uv. No lock exists yet."""
    folder, locks = tmp_path / "wheels", tmp_path / "requirements"
    folder.mkdir()
    locks.mkdir()
    for version in VERSIONS:
        with zipfile.ZipFile(folder / f"{NAME}-{version}-py3-none-any.whl", "w") as wheel:
            about = f"{NAME}-{version}.dist-info"
            wheel.writestr(f"{about}/METADATA", f"Name: {NAME}\nVersion: {version}\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")
    lock.uv()  # from the index that pip is configured for
    monkeypatch.setattr(lock, "FOLDER", locks)
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    return folder


def locked(tmp_path: Path, wanted: str = NAME, *, upgrade: bool = False) -> str:
    path = tmp_path / "some.in"
    path.write_text(f"{wanted}\n")
    return lock.locked("some", [path], lock.UNIVERSAL, upgrade=upgrade)


def test_every_package_has_its_hash_and_no_line_contains_the_index(
    wheels: Path, tmp_path: Path
) -> None:
    (entry,) = lock.blocks(locked(tmp_path)).values()

    digest = sha256((wheels / f"{NAME}-1.1-py3-none-any.whl").read_bytes()).hexdigest()
    assert entry.startswith(f"{NAME}==1.1 ")
    assert re.findall(r"--hash=sha256:(\w+)", entry) == [digest]
    assert str(wheels) not in entry


@pytest.mark.usefixtures("wheels")
def test_a_locked_version_is_kept_unless_upgraded(tmp_path: Path) -> None:
    (lock.FOLDER / "some.txt").write_text(locked(tmp_path, f"{NAME}==1.0"))

    assert f"{NAME}==1.0 " in locked(tmp_path)
    assert f"{NAME}==1.1 " in locked(tmp_path, upgrade=True)
    assert f"{NAME}==1.1 " in locked(tmp_path, f"{NAME}>1.0")


def test_pip_installs_a_lock_with_hashes_and_rejects_a_changed_file(
    wheels: Path, tmp_path: Path
) -> None:
    text = tmp_path / "some.txt"
    text.write_text(locked(tmp_path))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet"]
    command += ["--require-hashes", "--no-index", "--find-links", str(wheels), "-r", str(text)]

    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(wheels / f"{NAME}-1.1-py3-none-any.whl", "a") as wheel:
        wheel.writestr("another.py", "")
    refused = subprocess.run(command, check=False, capture_output=True, text=True)

    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr


@pytest.mark.usefixtures("wheels")
def test_an_unresolvable_requirement_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(lock.LockError, match="wanted>2"):
        locked(tmp_path, f"{NAME}>2")
