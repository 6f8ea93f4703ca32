"""File trees of images, built without a container runtime and run as an unprivileged user."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.dockerfile import Replay, Stage, stages_of

CHECKOUT = Path(__file__).resolve().parents[2]
STAGES = stages_of((CHECKOUT / "Dockerfile").read_text())
NOBODY = 65534
# Forbids all file writes, which is stricter than a read-only root with /tmp.
NO_FILES = ["/bin/sh", "-c", 'ulimit -f 0 && exec "$@"', "sh"]


@dataclass(frozen=True)
class Image:
    """The tree that an image adds to its base, in `folder` with the files of a test."""

    stage: Stage
    replay: Replay
    folder: Path

    def site_packages(self, environment: str = "secondpass") -> Path:
        """Return the site-packages folder of a virtual environment of the image."""
        (found,) = self.replay.root.glob(f"opt/{environment}/lib/python*/site-packages")
        return found

    def start(self, command: list[str], **variables: str) -> "subprocess.Popen[str]":
        """Start a command as in a container, with the environment of the image and `variables`."""
        default = "/usr/local/bin:/usr/bin:/bin"
        given = {name: self.replay.inside(value) for name, value in self.stage.environment.items()}
        path = given.pop("PATH").replace("$PATH", default)
        return subprocess.Popen(
            [*NO_FILES, *command],
            cwd="/",
            env={"HOME": "/", "PATH": path, **given, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **unprivileged(),
        )

    def run(self, command: list[str], given: str = "", **variables: str) -> tuple[int, str]:
        """Run a command with `given` as stdin and return its exit status and output."""
        process = self.start(command, **variables)
        output, _ = process.communicate(given, timeout=60)
        return process.returncode, output

    @contextmanager
    def serving(self, *arguments: str, **variables: str) -> "Iterator[subprocess.Popen[str]]":
        """Run the entry point within the block."""
        command = [*self.stage.command("ENTRYPOINT"), *arguments]
        with self.start(command, **variables) as process:
            try:
                yield process
            finally:
                process.kill()


def unprivileged() -> dict[str, Any]:
    """Return the Popen options that drop root privileges; empty if this process is not root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def unprivileged_python() -> Path:
    """Return an interpreter that an unprivileged user can run; this one may be in root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [Path(sys.base_prefix) / "bin", *map(Path, ("/usr/local/bin", "/usr/bin"))]
    for path in (place / version for place in places):
        try:
            subprocess.run([path, "-c", "import venv"], check=True, cwd="/", **unprivileged())
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip(f"this machine has no {version} that an unprivileged user can run")


@contextmanager
def replayed(target: str, kept: tuple[str, ...] = (), **files: str) -> Iterator[Image]:
    """Build the read-only tree of an image, with the build folders `kept` and `files` next to it."""
    python = unprivileged_python()
    # Only the owner can enter pytest's temporary folders.
    with tempfile.TemporaryDirectory(prefix="image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file, text in files.items():
            (folder / file).write_text(text)
        (folder / "root").mkdir()
        replay = Replay(STAGES, CHECKOUT, folder / "root", python)
        replay.build(target, kept)
        subprocess.run(["chmod", "-R", "a-w", folder], check=True)
        try:
            yield Image(STAGES[target], replay, folder)
        finally:
            subprocess.run(["chmod", "-R", "u+w", folder], check=True)
