"""What the image `vllm` adds to the engine's own: the few packages that the engine does not require, listed in a bill."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import secondpass
from tests.packaging.dockerfile import Replay
from tests.packaging.replayed_image import CHECKOUT, STAGES, python_for_everybody
from tools.lock import FOLDER, blocks

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
def share() -> Iterator[Path]:
    """The folder that the image takes from the stage `vllm-added`."""
    with tempfile.TemporaryDirectory(prefix="added-") as folder:
        replay = Replay(STAGES, CHECKOUT, Path(folder), python_for_everybody())
        replay.build("vllm-added", kept=("/opt/secondpass",))
        yield Path(folder, "opt/secondpass/share")


def test_the_bill_lists_the_service_and_what_is_locked_and_nothing_of_the_engine(
    share: Path,
) -> None:
    bill = json.loads((share / "secondpass.cdx.json").read_text())
    listed = {one["name"]: one["version"] for one in bill["components"]}

    assert bill["metadata"]["component"]["name"] == "secondpass"
    assert bill["metadata"]["component"]["version"] == secondpass.__version__
    locked = blocks((FOLDER / "vllm.txt").read_text())
    assert {name.replace("_", "-") for name in listed} == set(locked)
    assert all(
        f"=={version} " in locked[name.replace("_", "-")] for name, version in listed.items()
    )


def test_the_image_installs_the_lock_that_the_bill_was_made_of(share: Path) -> None:
    assert (share / "requirements.txt").read_bytes() == (FOLDER / "vllm.txt").read_bytes()
    assert STAGES["vllm"].all("COPY")[0].sources == ["vllm-added"]
    assert "-r /opt/secondpass/share/requirements.txt" in STAGES["vllm"].last("RUN")
