"""The locks that the images are installed from: pins that fit pyproject.toml, a hash for each file, and no address."""

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
ASKED = {
    "build": [*FILE["build-system"]["requires"], "cyclonedx-bom"],
    "service": PROJECT["dependencies"],
    "cpu": [*PROJECT["dependencies"], *EXTRAS["vllm-cpu"], *EXTRAS["demo"]],
    "router": ["vllm-router"],
    "vllm": [],
}
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def lines(target: str) -> dict[str, str]:
    """Each package's lines in a target's lock."""
    return blocks((FOLDER / f"{target}.txt").read_text())


def pins(target: str) -> dict[str, list[Requirement]]:
    """Each package's pins: several where they depend on the machine."""
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


def test_every_image_has_a_lock_and_every_lock_an_image() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(ASKED)


@pytest.mark.parametrize("target", ASKED)
def test_every_line_is_a_pin_with_hashes_and_names_no_address(target: str) -> None:
    text = (FOLDER / f"{target}.txt").read_text()

    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
    assert all(version_of(pin) for found in pins(target).values() for pin in found)
    assert all(_HASH.search(entry) for entry in lines(target).values())


@pytest.mark.parametrize("target", ASKED)
def test_a_lock_has_a_fitting_version_of_all_that_is_asked_for(target: str) -> None:
    locked = pins(target)

    for asked in map(Requirement, ASKED[target]):
        assert canonicalize_name(asked.name) in locked, asked
        for pin in locked[canonicalize_name(asked.name)]:
            assert asked.specifier.contains(version_of(pin)), (asked, pin)


def test_the_engines_image_gets_only_what_the_service_needs_and_the_engine_does_not() -> None:
    added, service = pins("vllm"), pins("service")

    assert set(added) <= set(service)
    assert set(added).isdisjoint({"vllm", "torch", "fastapi", "pydantic", "uvicorn", "aiohttp"})
    for asked in map(Requirement, PROJECT["dependencies"]):
        for pin in added.get(canonicalize_name(asked.name), []):
            assert asked.specifier.contains(version_of(pin)), (asked, pin)


def test_the_cpu_lock_leaves_torch_to_its_own_index_and_has_what_torch_needs() -> None:
    asked = [
        Requirement(line)
        for line in (FOLDER / "cpu.in").read_text().splitlines()
        if not line.startswith("#")
    ]
    locked = pins("cpu")

    assert set(locked).isdisjoint(SKIPPED)
    assert all(one.specifier.contains(version_of(locked[one.name][0])) for one in asked)
