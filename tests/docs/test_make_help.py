"""`make help` describes the coverage of each test target."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("target", "covered"),
    [
        ("test-compat", ("packages", "image", "manifests", "OpenAI client", "15 minutes")),
        ("test-faults", ("signalled", "killed", "10 minutes")),
        ("test-long", ("images",)),
    ],
)
def test_help_describes_each_test_target(target: str, covered: tuple[str, ...]) -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith(f"  make {target} ")]
    assert all(part in line for part in covered)
