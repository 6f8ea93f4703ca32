"""The router's image, made as the service's: it starts for a user who can write no file, and ends on SIGTERM."""

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


def test_a_container_is_stopped_and_checked_as_the_services() -> None:
    stage = STAGES[TARGET]

    assert stage.last("USER") == "2000:2000"
    assert stage.last("EXPOSE") == stage.command("CMD")[-1] == "8000"
    assert stage.last("STOPSIGNAL") == "SIGTERM"
    assert stage.command("ENTRYPOINT") == ["vllm-router"]
    assert "'/health'" in stage.command("HEALTHCHECK")[-1]


@pytest.mark.compat
def test_it_routes_for_a_user_who_can_write_no_file_and_ends_on_sigterm(image: Image) -> None:
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
def test_its_bill_of_materials_lists_the_router(image: Image) -> None:
    bill = (image.replay.root / "opt/router/share/router.cdx.json").read_text()

    assert '"vllm-router"' in bill
    assert (image.site_packages("router") / "vllm_router").is_dir()
