"""The image `router` runs without file writes and exits on SIGTERM, like the image `service`."""

import signal
from collections.abc import Iterator

import pytest

from tests.packaging.replayed_image import STAGES, Image, replayed
from tests.polling import wait_until
from tools.processes import answers, free_port

TARGET = "router"


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with replayed(TARGET) as image:
        yield image


def test_image_has_the_user_signals_and_health_check_of_the_service() -> None:
    stage = STAGES[TARGET]

    assert stage.last("USER") == "2000:2000"
    assert stage.last("EXPOSE") == stage.command("CMD")[-1] == "8000"
    assert stage.last("STOPSIGNAL") == "SIGTERM"
    assert stage.command("ENTRYPOINT") == ["vllm-router"]
    assert "'/health'" in stage.command("HEALTHCHECK")[-1]


@pytest.mark.compat
def test_router_runs_without_file_writes_and_exits_on_sigterm(image: Image) -> None:
    port, metrics = free_port(), free_port()
    flags = ("--port", str(port), "--prometheus-port", str(metrics))
    with image.serving("--host", "127.0.0.1", *flags) as process:
        wait_until(
            lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/health"),
            seconds=60,
        )
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)

    assert process.returncode == 0, output
    assert "Starting server" in output


@pytest.mark.compat
def test_bill_of_materials_contains_the_router(image: Image) -> None:
    bom = (image.replay.root / "opt/router/share/router.cdx.json").read_text()

    assert '"vllm-router"' in bom
    assert (image.site_packages("router") / "vllm_router").is_dir()
