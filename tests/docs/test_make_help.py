"""`make help` names what each target of the tests covers."""

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
def test_help_names_what_a_target_covers(target: str, covered: tuple[str, ...]) -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [one for one in listed.stdout.splitlines() if one.startswith(f"  make {target} ")]
    assert all(part in line for part in covered)
