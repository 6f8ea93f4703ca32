"""Pinning of base images with a real registry on loopback."""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.cache import CHECKOUT
from tools.processes import free_port, serving

pytestmark = pytest.mark.slow

# Path that `make docker-registry` installs to.
UNPACKED = CHECKOUT / ".cache/deploy/docker-registry/usr/bin/docker-registry"
CONFIGURATION = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
# Configuration of an operator for a registry in a private network.
INSECURE = '[[registry]]\nlocation = "{address}"\ninsecure = true\n'


@dataclass(frozen=True)
class Registry:
    """A registry, and a home folder whose configuration allows plain HTTP to it."""

    address: str
    home: Path

    def run(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        environment = {"HOME": str(self.home), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        return subprocess.run(
            command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    server = shutil.which("docker-registry") or shutil.which(UNPACKED)
    if not server or not shutil.which("skopeo"):
        pytest.skip("docker-registry or skopeo is missing: run `make containers` as root")
    port = free_port()
    config, home = tmp_path / "config.yml", tmp_path / "home"
    config.write_text(CONFIGURATION.format(folder=tmp_path / "blobs", port=port))
    settings = home / ".config/containers/registries.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(INSECURE.format(address=f"127.0.0.1:{port}"))
    command = [server, "serve", str(config)]
    url = f"http://127.0.0.1:{port}/v2/"
    with serving("registry", command, url, tmp_path / "log", timeout=30):
        yield Registry(f"127.0.0.1:{port}", home)


def push(registry: Registry, folder: Path, name: str) -> str:
    """Push an image with one empty layer and return its digest in the registry."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, str | int]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    layer = folder / "layer.tar"
    tarfile.open(layer, "w").close()
    oci = "application/vnd.oci.image"
    packed = blob(layer.read_bytes(), f"{oci}.layer.v1.tar")
    about = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [packed["digest"]]},
    }
    config = blob(json.dumps(about).encode(), f"{oci}.config.v1+json")
    manifest = {"schemaVersion": 2, "config": config, "layers": [packed]}
    index = {
        "schemaVersion": 2,
        "manifests": [blob(json.dumps(manifest).encode(), f"{oci}.manifest.v1+json")],
    }
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    image = f"docker://{registry.address}/{name}"
    pushed = registry.run("skopeo", "copy", f"oci:{folder}", image)
    assert pushed.returncode == 0, pushed.stderr
    return registry.run("skopeo", "inspect", "--format", "{{.Digest}}", image).stdout.strip()


def pin(registry: Registry, dockerfile: Path) -> "subprocess.CompletedProcess[str]":
    return registry.run(sys.executable, "-m", "tools.pin_base", dockerfile)


def test_tags_are_pinned_to_the_digests_of_the_registry(registry: Registry, tmp_path: Path) -> None:
    digest = push(registry, tmp_path / "image", "python:3.12")
    image = f"{registry.address}/python:3.12"
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"ARG PYTHON_IMAGE={image}\nFROM ${{PYTHON_IMAGE}} AS base\n")

    pinned = pin(registry, dockerfile)

    assert pinned.returncode == 0, pinned.stderr
    assert digest.startswith("sha256:")
    assert dockerfile.read_text().splitlines()[0] == f"ARG PYTHON_IMAGE={image}@{digest}"
    assert pinned.stdout.strip() == f"{image}@{digest}"
    by_digest = registry.run("skopeo", "inspect", f"docker://{registry.address}/python@{digest}")
    assert by_digest.returncode == 0, by_digest.stderr


def test_a_missing_image_leaves_the_file_unchanged(registry: Registry, tmp_path: Path) -> None:
    push(registry, tmp_path / "image", "python:3.12")
    text = "".join(
        f"ARG {name}_IMAGE={registry.address}/{image}\n"
        for name, image in {"PYTHON": "python:3.12", "VLLM": "vllm:v0"}.items()
    )
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(text)

    pinned = pin(registry, dockerfile)

    assert pinned.returncode == 1
    assert f"{registry.address}/vllm:v0: skopeo: " in pinned.stderr
    assert dockerfile.read_text() == text
