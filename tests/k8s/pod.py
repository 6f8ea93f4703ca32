"""The secondpass container of an overlay, run as a local process.

Arguments, environment variables and settings come from the rendered manifest.
"""

import hashlib
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.k8s.tools import ROOT, kubectl, run
from tools.processes import Child, free_port

KEY = "sk-test"
TENANT = "tests"
LOG = "secondpass.log"
POLL_SECONDS = 0.2
"""Shorter than a kubelet's probe period, so that tests do not wait for one."""


@dataclass(frozen=True)
class Manifest:
    """The secondpass container of a rendered overlay, with the shutdown settings of its pod."""

    args: tuple[str, ...]
    env: dict[str, str]
    settings: str
    startup: dict[str, Any]
    readiness: dict[str, Any]
    liveness: dict[str, Any]
    pre_stop_seconds: float
    grace_seconds: float

    @classmethod
    def render(cls, overlay: str) -> Self:
        """Render `overlay` and parse it."""
        objects = list(yaml.safe_load_all(_rendered(overlay)))
        (deployment,) = (each for each in objects if _is_named(each, "Deployment", "secondpass"))
        (config,) = (each for each in objects if _is_named(each, "ConfigMap", "secondpass-config"))
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        return cls(
            args=tuple(container["args"]),
            env={each["name"]: each["value"] for each in container["env"]},
            settings=config["data"]["secondpass.toml"],
            startup=container["startupProbe"],
            readiness=container["readinessProbe"],
            liveness=container["livenessProbe"],
            pre_stop_seconds=container["lifecycle"]["preStop"]["sleep"]["seconds"],
            grace_seconds=pod["terminationGracePeriodSeconds"],
        )


@cache
def _rendered(overlay: str) -> str:
    return run(kubectl(), "kustomize", ROOT / "k8s/overlays" / overlay)


def _is_named(one: dict[str, Any], kind: str, name: str) -> bool:
    return one["kind"] == kind and bool(
        re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", one["metadata"]["name"])
    )


@dataclass(frozen=True)
class Pod:
    """A running secondpass process, its port and its manifest."""

    child: Child
    port: int
    manifest: Manifest

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        """Return a client that sends the API key."""
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False)

    def probe(self, probe: dict[str, Any]) -> int | None:
        """Status code of one probe request; None if there is no reply within its timeout."""
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            try:
                path = probe["httpGet"]["path"]
                return client.get(path, timeout=probe.get("timeoutSeconds", 1)).status_code
            except httpx.TransportError:
                return None

    def wait_for(self, probe: dict[str, Any], seconds: float) -> float:
        """Probe until it succeeds and return the seconds that took.

        Raises AssertionError after `seconds`, or when the process exits.
        """
        began = time.monotonic()
        while self.probe(probe) != 200:
            waited = time.monotonic() - began
            assert self.child.exit_status() is None, self.child.tail()
            assert waited < seconds, f"{probe['httpGet']['path']}: {self.child.tail()}"
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def wait_until_started(self) -> None:
        """Wait until the startup probe succeeds, for at most as long as it allows."""
        probe = self.manifest.startup
        self.wait_for(probe, probe["periodSeconds"] * probe["failureThreshold"])


def write_settings(manifest: Manifest, folder: Path, engine_url: str, *, more: str = "") -> Path:
    """Write the overlay's settings with this engine URL and a local file of API keys.

    `more` is added to the engine's table.
    """
    keys = folder / "api-keys"
    keys.write_text(f"{TENANT}:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    text, engines = re.subn(r'(?m)^url = ".*"$', f'url = "{engine_url}"\n{more}', manifest.settings)
    text, files = re.subn(r'(?m)^api_keys_file = ".*"$', f'api_keys_file = "{keys}"', text)
    assert (engines, files) == (1, 1)
    path = folder / "secondpass.toml"
    path.write_text(text)
    return path


@contextmanager
def running_pod(manifest: Manifest, settings: Path, **env: str) -> Iterator[Pod]:
    """Run the container's command on a free port for the duration of the block.

    `env` extends its environment variables.
    """
    port = free_port()
    variables = {**manifest.env, "SECONDPASS_CONFIG": str(settings), "SECONDPASS_PORT": str(port)}
    command = [sys.executable, "-m", "secondpass.service", *manifest.args]
    child = Child.start("secondpass", command, settings.parent / LOG, {**variables, **env}, ROOT)
    try:
        yield Pod(child, port, manifest)
    finally:
        child.stop()
