"""Files that code and tests can read in the sandbox."""

import re
import sys
import sysconfig
from pathlib import Path

import pytest

from secondpass.service.sandbox.mounts import SITE_PACKAGES, system_mounts
from secondpass.service.sandbox.runner import run_python

pytestmark = pytest.mark.anyio

WALK = """
import os
def walk():
    found = []
    for folder, names, files in os.walk("/"):
        found += [os.path.join(folder, each) for each in [*names, *files]]
    return [each for each in found if not each.startswith("/usr/share/zoneinfo/")]
"""
STDLIB = sysconfig.get_path("stdlib", vars={"base": sys.base_prefix})


def is_expected(path: str) -> bool:
    """Return whether a path is part of Python, one of its libraries, or an empty folder above these."""
    mounted = [word for word in system_mounts() if word.startswith("/")]
    return (
        path.startswith((f"{STDLIB}/", "/dev/null", "/dev/urandom"))
        or re.match(r"(/usr)?/lib/\w+-linux-\w+/", path) is not None
        or path in ("/dev", "/tmp", "/usr/share/zoneinfo")
        or any(place == path or place.startswith(f"{path}/") for place in mounted)
    )


async def test_code_sees_python_and_its_libraries_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secondpass.service.sandbox.runner.MAX_OUTPUT_CHARACTERS", 2**20)
    code = f"{WALK}\nprint('RESULT' + '\\n'.join(walk()) + 'END')\ndef zero():\n    return 0\n"
    result = await run_python(code, "assert zero() == 1")
    paths = result.output.partition("RESULT")[2].partition("END")[0].split("\n")
    assert len(paths) > 500
    assert [path for path in paths if not is_expected(path)] == []
    hidden = (
        "secondpass",
        "fastapi",
        "pydantic",
        "uvicorn",
        "/usr/local/etc",
        "/etc/",
        "dist-packages/",
    )
    assert not [path for path in paths if any(word in path for word in hidden)]
    roots = {path.split("/")[1] for path in paths}
    prefix = Path(sys.base_prefix).parts[1]
    assert roots <= {"usr", "lib", "lib64", "dev", "tmp", prefix}


async def test_tests_see_testing_packages_but_no_other() -> None:
    packages = {
        "pytest",
        "_pytest",
        "py",
        "iniconfig",
        "packaging",
        "pluggy",
        "pygments",
        "sortedcontainers",
    }
    tests = (
        f"{WALK}\nassert add(1) == 2\nimport pytest\n"
        f"names = {{each.removesuffix('.py') for each in os.listdir({SITE_PACKAGES!r}) if 'hypothesis' not in each}}\n"
        f"assert {{'pytest', '_pytest', 'pluggy'}} <= names <= {packages!r}, names\n"
        "found = [each for each in walk() if any(word in each for word in ('secondpass', 'pydantic', 'fastapi', '/etc/'))]\n"
        "assert not found, found\n"
    )
    result = await run_python("def add(x):\n    return x + 1\n", tests)
    assert result.status == "passed", result
