"""Pin the Dockerfile's base images: `name:tag` becomes `name:tag@sha256:...`, asked of the images' registries.

    python -m tools.pin_base [DOCKERFILE]     skopeo asks, or docker buildx where there is no skopeo

Both use the credentials and mirrors that are configured for them. A digest that is there is renewed. Either every image
is pinned or the file stays unchanged.
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

ANSWER_SECONDS = 60
_BASE = re.compile(r"^(ARG \w+_IMAGE=)([^@\s]+)(@sha256:[0-9a-f]{64})?$", re.MULTILINE)


class PinError(RuntimeError):
    """An image's digest could not be learned."""


def commands(image: str) -> Iterator[list[str]]:
    """For each tool that is installed, a command that prints an image's manifest byte for byte."""
    if shutil.which("skopeo"):
        yield ["skopeo", "inspect", "--raw", f"docker://{image}"]
    if shutil.which("docker"):
        yield ["docker", "buildx", "imagetools", "inspect", "--raw", image]


def has_buildx(docker: str) -> bool:
    """Whether docker has its buildx plug-in. Without one, docker answers the command with its usage."""
    asked = subprocess.run(
        [docker, "buildx", "version"], capture_output=True, check=False, timeout=ANSWER_SECONDS
    )
    return asked.returncode == 0


def digest(image: str) -> str:
    """The digest of what a tag names now: the list of platforms, where there is one. Raises PinError."""
    reasons = []
    for command in commands(image):
        try:
            if command[0] == "docker" and not has_buildx(command[0]):
                reasons.append("docker: its plug-in buildx is not installed")
                continue
            asked = subprocess.run(
                command, capture_output=True, check=False, timeout=ANSWER_SECONDS
            )
        except subprocess.TimeoutExpired:
            reasons.append(f"{command[0]}: no answer in {ANSWER_SECONDS} s")
            continue
        if asked.returncode == 0 and asked.stdout:
            return f"sha256:{hashlib.sha256(asked.stdout).hexdigest()}"
        reasons.append(f"{command[0]}: {asked.stderr.decode(errors='replace').strip()}")
    raise PinError(f"{image}: {'; '.join(reasons) or 'neither skopeo nor docker is installed'}")


def pin(dockerfile: Path) -> list[str]:
    """Write the digests into a Dockerfile and return its images. Raises PinError before it writes anything."""
    text = dockerfile.read_text()
    images = [found[2] for found in _BASE.finditer(text)]
    if not images:
        raise PinError(f"{dockerfile}: no line ARG ..._IMAGE=name:tag")
    digests = {image: digest(image) for image in images}
    dockerfile.write_text(_BASE.sub(lambda one: f"{one[1]}{one[2]}@{digests[one[2]]}", text))
    return [f"{image}@{digests[image]}" for image in images]


def main() -> None:
    """Pin and print each image, or exit with 1 and say which image has no digest."""
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
