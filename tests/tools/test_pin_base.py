"""Pinning base images with fake tools; tests/packaging/test_registry.py uses a registry."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tools.cache import CHECKOUT

DOCKERFILE = "# Bases\nARG A_IMAGE=some/base:1\nARG B_IMAGE=other:2.0-x@sha256:" + "0" * 64 + "\n"
SHA256 = "sha256:7fd09355f7901c0dba3aaec7ae0950f71ed35068d154e0a8f5cf4e8cb9de7bd4"


def pin_base(dockerfile: Path, tools: Path) -> "subprocess.CompletedProcess[str]":
    """Run the tool with only `tools` on the path."""
    return subprocess.run(
        [sys.executable, "-m", "tools.pin_base", dockerfile],
        cwd=CHECKOUT,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


def install(folder: Path, name: str, script: str) -> None:
    """Put a shell script into `folder` as a command."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def dockerfile(tmp_path: Path) -> Path:
    path = tmp_path / "Dockerfile"
    path.write_text(DOCKERFILE)
    return path


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "neither skopeo nor docker is installed"),
        ('case "$*" in *other*) echo unreachable >&2; exit 1;; esac; echo list', "unreachable"),
        ("exit 0", "skopeo: "),
        ("echo half a list; echo denied >&2; exit 1", "skopeo: denied"),
    ],
)
def test_a_missing_digest_leaves_the_file_unchanged_and_names_the_image(
    dockerfile: Path, tmp_path: Path, script: str | None, reason: str
) -> None:
    if script:
        install(tmp_path, "skopeo", script)

    done = pin_base(dockerfile, tmp_path)

    assert done.returncode == 1
    image = "other:2.0-x" if reason == "unreachable" else "some/base:1"
    assert f"nothing was changed: {image}: " in done.stderr
    assert reason in done.stderr
    assert dockerfile.read_text() == DOCKERFILE


@pytest.mark.parametrize("tool", ["skopeo", "docker"])
def test_digests_are_added_or_updated_after_the_tag(
    dockerfile: Path, tmp_path: Path, tool: str
) -> None:
    install(tmp_path, tool, "echo list")

    done = pin_base(dockerfile, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"some/base:1@{SHA256}", f"other:2.0-x@{SHA256}"]
    assert dockerfile.read_text().splitlines() == [
        "# Bases",
        f"ARG A_IMAGE=some/base:1@{SHA256}",
        f"ARG B_IMAGE=other:2.0-x@{SHA256}",
    ]


def test_missing_buildx_is_reported_instead_of_the_usage(dockerfile: Path, tmp_path: Path) -> None:
    install(tmp_path, "docker", "echo 'Usage:  docker [OPTIONS] COMMAND' >&2; exit 125")

    done = pin_base(dockerfile, tmp_path)

    assert done.returncode == 1
    assert "some/base:1: docker: the buildx plug-in is not installed" in done.stderr
    assert "Usage" not in done.stderr
    assert dockerfile.read_text() == DOCKERFILE


def test_a_file_without_base_arguments_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "Dockerfile"
    empty.write_text("FROM scratch\n")

    done = pin_base(empty, tmp_path)

    assert (done.returncode, "no line ARG" in done.stderr) == (1, True)
