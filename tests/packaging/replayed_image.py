"""An image's tree made without a container runtime, made read-only, and its commands run as an unprivileged user."""

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
# Not one file may be written, wherever it is: less than a read-only root with a /tmp allows.
NO_FILES = ["/bin/sh", "-c", 'ulimit -f 0 && exec "$@"', "sh"]


@dataclass(frozen=True)
class Image:
    """The tree that an image adds to its base, in `folder` with the files that a test adds to it."""

    stage: Stage
    replay: Replay
    folder: Path

    def site_packages(self, environment: str = "secondpass") -> Path:
        """Where a virtual environment of the image keeps its packages."""
        (found,) = self.replay.root.glob(f"opt/{environment}/lib/python*/site-packages")
        return found

    def start(self, command: list[str], **variables: str) -> "subprocess.Popen[str]":
        """Run a command as in a container, whose environment is the image's own and `variables`."""
        usual = "/usr/local/bin:/usr/bin:/bin"
        given = {name: self.replay.inside(it) for name, it in self.stage.environment.items()}
        path = given.pop("PATH").replace("$PATH", usual)
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
        """Exit status and output of a command that ends when it has read what is `given`."""
        process = self.start(command, **variables)
        output, _ = process.communicate(given, timeout=60)
        return process.returncode, output

    @contextmanager
    def serving(self, *arguments: str, **variables: str) -> "Iterator[subprocess.Popen[str]]":
        """Run the entry point with arguments until it is stopped or the block is left."""
        command = [*self.stage.command("ENTRYPOINT"), *arguments]
        with self.start(command, **variables) as process:
            try:
                yield process
            finally:
                process.kill()


def unprivileged() -> dict[str, Any]:
    """What makes a process nobody's, where we are root; else we have no privileges to lose."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def python_for_everybody() -> Path:
    """A Python that an unprivileged user may run: ours may be in root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [Path(sys.base_prefix) / "bin", *map(Path, ("/usr/local/bin", "/usr/bin"))]
    for path in (place / version for place in places):
        try:
            subprocess.run([path, "-c", "import venv"], check=True, cwd="/", **unprivileged())
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip(f"there is no {version} here that a user other than root may run")


@contextmanager
def replayed(target: str, kept: tuple[str, ...] = (), **files: str) -> Iterator[Image]:
    """The tree of an image, read-only; `kept` are more folders of its build, and `files` lie beside it."""
    python = python_for_everybody()
    # Not pytest's folder, which only its owner may enter.
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
