"""Packages that the image `vllm` adds to the engine image, and their bill of materials."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import secondpass
from tests.packaging.dockerfile import Replay
from tests.packaging.replayed_image import CHECKOUT, STAGES, unprivileged_python
from tools.lock import FOLDER, blocks

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
def share() -> Iterator[Path]:
    """The folder that the image copies from the stage `vllm-added`."""
    with tempfile.TemporaryDirectory(prefix="added-") as folder:
        replay = Replay(STAGES, CHECKOUT, Path(folder), unprivileged_python())
        replay.build("vllm-added", kept=("/opt/secondpass",))
        yield Path(folder, "opt/secondpass/share")


def test_bill_of_materials_contains_the_service_and_the_locked_packages(
    share: Path,
) -> None:
    bom = json.loads((share / "secondpass.cdx.json").read_text())
    listed = {each["name"]: each["version"] for each in bom["components"]}

    assert bom["metadata"]["component"]["name"] == "secondpass"
    assert bom["metadata"]["component"]["version"] == secondpass.__version__
    locked = blocks((FOLDER / "vllm.txt").read_text())
    assert {name.replace("_", "-") for name in listed} == set(locked)
    assert all(
        f"=={version} " in locked[name.replace("_", "-")] for name, version in listed.items()
    )


def test_image_installs_the_lock_of_its_bill_of_materials(share: Path) -> None:
    assert (share / "requirements.txt").read_bytes() == (FOLDER / "vllm.txt").read_bytes()
    assert STAGES["vllm"].all("COPY")[0].sources == ["vllm-added"]
    assert "-r /opt/secondpass/share/requirements.txt" in STAGES["vllm"].last("RUN")
