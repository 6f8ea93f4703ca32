"""Images built by buildah and run by podman on a separate store, without a daemon or a registry.

The pip configuration and certificates of this machine are mounted, so that proxies and mirrors work.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import secondpass

CHECKOUT = Path(__file__).resolve().parents[2]
BASE = "localhost/python:bookworm"
PACKAGES = "python3,python3-venv,python3-pip,python-is-python3,ca-certificates"
TOOLS = ("buildah", "catatonit", "iptables", "mmdebstrap", "podman", "runc")
# Folders of Debian that are not on the default PATH.
EXTRA_PATHS = ("/usr/sbin", "/sbin", "/usr/libexec/podman")
# No systemd is running, and the limits of this machine may be below podman's defaults.
CONFIGURATION = """\
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""
HARDENED = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")
_PIP_OPTION = re.compile(r"^(:env:|\w+)\.([\w-]+)='(.*)'$")
_INDEXES = ("index-url", "extra-index-url")
_FILES = ("cert", "find-links")
_COPIED_OPTIONS = (*_INDEXES, *_FILES, "proxy", "timeout")


@dataclass(frozen=True)
class Containers:
    """buildah and podman with all their state in `folder`."""

    folder: Path

    def prepare(self) -> None:
        """Write the configuration and build the replacement of Docker's Python image."""
        (self.folder / "containers.conf").write_text(CONFIGURATION)
        context = self.folder / "base"
        context.mkdir()
        archive = context / "base.tar"
        options = ["--variant=minbase", f"--include={PACKAGES}"]
        self._run(["mmdebstrap", *options, "bookworm", str(archive)])
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        self._build(BASE, "--file", context / "Dockerfile", context)
        archive.unlink()

    def build(self, target: str) -> str:
        """Build a target of the Dockerfile and return the name of the image."""
        image = f"localhost/secondpass-{target}:{secondpass.__version__}"
        options = ["--target", target, "--build-arg", f"PYTHON_IMAGE={BASE}", *self._pip_mounts()]
        self._build(image, *options, CHECKOUT)
        return image

    def run(
        self, image: str, *command: str, entrypoint: str | None = None, scratch: bool = True
    ) -> str:
        """Return the output of a command in a read-only container without capabilities or a network.

        `scratch` mounts podman's default memory-backed folders, including /tmp.
        """
        instead = ["--entrypoint", entrypoint] if entrypoint else []
        folders = f"--read-only-tmpfs={str(scratch).lower()}"
        options = ["--rm", "--no-healthcheck", "--network", "none", *HARDENED, folders, *instead]
        return self.podman("run", *options, image, *command)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """Return podman's description of an image, a container or a network."""
        (found,) = json.loads(self.podman(kind, "inspect", name))
        assert isinstance(found, dict)
        return found

    def podman(self, *arguments: str | Path, seconds: float = 300, errors_too: bool = False) -> str:
        """Run podman and return its stdout, with `errors_too` also its stderr. Fails with its output."""
        state: list[str | Path] = ["--tmpdir", self.folder / "state"]
        return self._run(["podman", *self._store, *state, *arguments], seconds, errors_too)

    def logs(self, container: str) -> str:
        """Return the stdout and stderr of a container."""
        return self.podman("logs", container, errors_too=True)

    def remove(self) -> None:
        """Remove all pods and containers, so that the folder can be deleted."""
        self.podman("pod", "rm", "--force", "--all", "--time", "0")
        self.podman("rm", "--force", "--all", "--time", "0")

    @property
    def _store(self) -> list[str | Path]:
        root, run = self.folder / "store", self.folder / "run"
        return ["--storage-driver", "vfs", "--root", root, "--runroot", run]

    def _build(self, image: str, *arguments: str | Path) -> None:
        # The OCI format has no health checks.
        options = ["--isolation", "chroot", "--format", "docker", "--tag", image]
        self._run(["buildah", *self._store, "build", *options, *arguments], 1200)

    def _pip_mounts(self) -> Iterator[str | Path]:
        """Yield options that mount pip's configuration, and its certificates and folders of wheels."""
        options = pip_options()
        file = self.folder / "pip.conf"
        lines = [f"{name} = {value}\n" for name, value in options.items()]
        file.write_text("".join(["[global]\n", *lines]))
        yield from ("--volume", f"{file}:/etc/pip.conf:ro")
        for name in _FILES:
            for path in options.get(name, "").split():
                if path.startswith("/") and Path(path).exists():
                    yield from ("--volume", f"{path}:{path}:ro")

    def _run(
        self, command: list[str | Path], seconds: float = 300, errors_too: bool = False
    ) -> str:
        path = os.pathsep.join([os.environ["PATH"], *EXTRA_PATHS])
        configured = {"CONTAINERS_CONF": str(self.folder / "containers.conf"), "PATH": path}
        done = subprocess.run(
            command,
            env={**os.environ, **configured},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        shown = " ".join(map(str, command))
        assert done.returncode == 0, f"{shown}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        return done.stdout + done.stderr if errors_too else done.stdout


def pip_options() -> dict[str, str]:
    """Return the pip options of this machine; variables override files, as in pip.

    A file: index is excluded because its pages may link to any folder.
    """
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [match for line in listed.splitlines() if (match := _PIP_OPTION.match(line))]
    ordered = sorted(found, key=lambda option: option[1] == ":env:")
    options = {option[2]: option[3] for option in ordered if option[2] in _COPIED_OPTIONS}
    for name in _INDEXES:
        remote = [url for url in options.pop(name, "").split() if not url.startswith("file:")]
        if remote:
            options[name] = " ".join(remote)
    return options


def skip_without_build_tools() -> None:
    """Skip the test if a tool is missing or the user is not root."""
    path = os.pathsep.join([os.environ["PATH"], *EXTRA_PATHS])
    missing = [name for name in TOOLS if not shutil.which(name, path=path)]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: run `make containers` as root")
    if os.geteuid() != 0:
        pytest.skip("images are built in a chroot, which needs root")
