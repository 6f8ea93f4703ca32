"""Command, environment and startup errors of the local vLLM server."""

import os
from pathlib import Path

import pytest

from tools import local_vllm
from tools.local_vllm import serve_vllm, vllm_command, vllm_environment
from tools.processes import ServerDidNotStart


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=[True, False], ids=["cpu build", "cuda build"])
def cpu_build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    is_cpu: bool = request.param
    monkeypatch.setattr(local_vllm, "is_cpu_build", lambda: is_cpu)
    return is_cpu


def test_only_the_cpu_build_gets_small_limits(cpu_build: bool, tmp_path: Path) -> None:
    command = vllm_command("model", "name", 9000, ["--seed", "7"])

    assert command[-2:] == ["--seed", "7"]
    assert ("--enforce-eager" in command) is cpu_build
    assert ("VLLM_CPU_KVCACHE_SPACE" in vllm_environment(str(tmp_path))) is cpu_build


@pytest.mark.usefixtures("cpu_build")
def test_the_engine_listens_on_loopback_only() -> None:
    command = vllm_command("model", "name", 9000)

    assert command[command.index("--host") + 1] == "127.0.0.1"


@pytest.mark.usefixtures("cpu_build")
def test_a_local_folder_is_served_offline(tmp_path: Path) -> None:
    assert vllm_environment(str(tmp_path))["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in vllm_environment("someone/some-model")


def test_existing_environment_variables_are_not_overridden(
    cpu_build: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "3")

    assert "VLLM_CPU_OMP_THREADS_BIND" not in vllm_environment(str(tmp_path)), cpu_build


def test_the_first_of_several_cores_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_vllm, "is_cpu_build", lambda: True)
    bound = []
    for cores in ({0}, {0, 1}, {2, 3, 4}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, cores=cores: cores)
        bound.append(vllm_environment(str(tmp_path))["VLLM_CPU_OMP_THREADS_BIND"])

    assert bound == ["0", "1", "3,4"]


@pytest.mark.vllm
def test_startup_failure_contains_the_end_of_the_log(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerDidNotStart, match=r"(?s)vLLM exited with status 1; end of .*config"),
        serve_vllm(tmp_path),
    ):
        pytest.fail("the block was entered")
