"""Pin the Dockerfile's base images: `name:tag` becomes `name:tag@sha256:...`.

    python -m tools.pin_base [DOCKERFILE]

The digests are queried with skopeo, or with docker buildx if skopeo is missing or fails, using their configured
credentials and mirrors. Existing digests are updated. Either all images are pinned or the file remains unchanged.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.cache import CHECKOUT

TIMEOUT_SECONDS = 60
_BASE = re.compile(r"^(ARG \w+_IMAGE=)([^@\s]+)(@sha256:[0-9a-f]{64})?$", re.MULTILINE)


class PinError(RuntimeError):
    """The digest of an image could not be determined."""


def commands(image: str) -> Iterator[list[str]]:
    """Yield, for each installed tool, a command that prints the raw manifest of an image."""
    if shutil.which("skopeo"):
        yield ["skopeo", "inspect", "--raw", f"docker://{image}"]
    if shutil.which("docker"):
        yield ["docker", "buildx", "imagetools", "inspect", "--raw", image]


def has_buildx(docker: str) -> bool:
    """Return whether docker has the buildx plug-in. Without it, docker prints its usage for the command."""
    result = subprocess.run(
        [docker, "buildx", "version"], capture_output=True, check=False, timeout=TIMEOUT_SECONDS
    )
    return result.returncode == 0


def digest(image: str) -> str:
    """Return the current digest of a tag: of the multi-platform index if one exists. Raises PinError."""
    reasons = []
    for command in commands(image):
        try:
            if command[0] == "docker" and not has_buildx(command[0]):
                reasons.append("docker: the buildx plug-in is not installed")
                continue
            result = subprocess.run(
                command, capture_output=True, check=False, timeout=TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            reasons.append(f"{command[0]}: no response within {TIMEOUT_SECONDS} s")
            continue
        if result.returncode == 0 and result.stdout:
            return f"sha256:{hashlib.sha256(result.stdout).hexdigest()}"
        reasons.append(f"{command[0]}: {result.stderr.decode(errors='replace').strip()}")
    raise PinError(f"{image}: {'; '.join(reasons) or 'neither skopeo nor docker is installed'}")


def pin(dockerfile: Path) -> list[str]:
    """Write the digests into a Dockerfile and return the pinned images.

    Raises PinError, without a change to the file, if a digest cannot be determined.
    """
    text = dockerfile.read_text()
    images = [found[2] for found in _BASE.finditer(text)]
    if not images:
        raise PinError(f"{dockerfile}: contains no line ARG ..._IMAGE=name:tag")
    digests = {image: digest(image) for image in images}
    dockerfile.write_text(
        _BASE.sub(lambda found: f"{found[1]}{found[2]}@{digests[found[2]]}", text)
    )
    return [f"{image}@{digests[image]}" for image in images]


def main() -> None:
    """Pin and print each image, or exit with status 1 and an error that names the image."""
    parser = argparse.ArgumentParser(
        prog="pin_base", description="Pin the base images of a Dockerfile."
    )
    parser.add_argument("dockerfile", nargs="?", type=Path, default=CHECKOUT / "Dockerfile")
    try:
        print(*pin(parser.parse_args().dockerfile), sep="\n")
    except PinError as error:
        sys.exit(f"pin_base: nothing was changed: {error}")


if __name__ == "__main__":
    main()
