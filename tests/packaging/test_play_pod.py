"""The pod of the overlay `split` under podman: probes, a solve and draining as by a kubelet.

`podman kube play` ignores probes, preStop and the grace period, so the tests read them from the manifest and apply them.
"""

import hashlib
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.k8s.manifests import Object, find_object, of_kind, render_overlay
from tests.packaging.containers import Containers
from tools.processes import free_port, serving

pytestmark = pytest.mark.slow

KEY = "a key"
KEYS = "secondpass-api-keys"
NETWORK = "podman"  # podman's default bridge
TOKEN_SECONDS = 0.6
QUESTION = {"question": "What is 6 times 7?"}


@dataclass(frozen=True)
class Pod:
    """A running pod, its specification, and a client with an API key."""

    containers: Containers
    name: str
    spec: Object
    client: httpx.Client

    @property
    def container(self) -> Object:
        (only,) = self.spec["containers"]
        assert isinstance(only, dict)
        return only

    def await_probe(self, probe: str) -> None:
        """Wait for a probe as the kubelet does. Fails after `failureThreshold` failures."""
        wanted = self.container[probe]
        for _ in range(wanted["failureThreshold"]):
            if self.succeeds(wanted):
                return
            time.sleep(wanted["periodSeconds"])
        pytest.fail(f"{probe} failed:\n{self.containers.logs(self.name)}")

    def succeeds(self, probe: Object) -> bool:
        """Return whether one request of a probe succeeds."""
        get = probe["httpGet"]
        try:
            reply = self.client.get(get["path"], timeout=probe["timeoutSeconds"])
        except httpx.TransportError:
            return False
        return reply.is_success

    def solve(self) -> httpx.Response:
        return self.client.post("/solve", json=QUESTION)


@pytest.fixture(scope="module")
def upstream(
    containers: Containers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """A server with the scripted engine on all addresses; yields its URL on the bridge and its model."""
    folder, port = tmp_path_factory.mktemp("upstream"), free_port()
    model = next(iter(_settings(render_overlay("split"))["engines"].values()))["model"]
    config = folder / "upstream.toml"
    config.write_text(
        f"host = '0.0.0.0'\nport = {port}\nallow_unauthenticated = true\n"
        f"[engines.slow]\nkind = 'scripted'\nmodel = '{model}'\nper_token = {TOKEN_SECONDS}\n"
    )
    command = [sys.executable, "-m", "secondpass.service", "serve", "--config", str(config)]
    gateway = containers.inspect("network", NETWORK)["subnets"][0]["gateway"]
    url = f"http://127.0.0.1:{port}/readyz"
    with serving("upstream", command, url, folder / "log", timeout=60):
        yield f"http://{gateway}:{port}/v1", model


@pytest.fixture
def pod(
    containers: Containers, service_image: str, upstream: tuple[str, str], tmp_path: Path
) -> Iterator[Pod]:
    """The Deployment `secondpass` with its ConfigMap and API keys, ready."""
    url, _ = upstream
    found, port = render_overlay("split"), free_port()
    deployment = find_object(found, "Deployment", "secondpass")
    spec = deployment["spec"]["template"]["spec"]
    manifest = tmp_path / "pod.yaml"
    objects = [*_configuration(found, url), _playable(deployment, service_image, port)]
    manifest.write_text(yaml.safe_dump_all(objects))
    with _played(containers, manifest) as name, _client(port) as client:
        pod = Pod(containers, name, spec, client)
        pod.await_probe("startupProbe")
        pod.await_probe("readinessProbe")
        yield pod


def _settings(found: list[Object]) -> dict[str, Any]:
    (config,) = _config_maps(found)
    return tomllib.loads(config["data"]["secondpass.toml"])


def _config_maps(found: list[Object]) -> list[Object]:
    maps = of_kind(found, "ConfigMap")
    return [each for each in maps if each["metadata"]["name"].startswith("secondpass-config-")]


def _configuration(found: list[Object], engine_url: str) -> list[Object]:
    """Return the ConfigMap with the URL of the test engine, and the API keys of the operator's Secret."""
    (config,) = _config_maps(found)
    (engine,) = _settings(found)["engines"].values()
    text = config["data"]["secondpass.toml"]
    config["data"]["secondpass.toml"] = text.replace(engine["url"], engine_url)
    keys = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": KEYS},
        "data": {"api-keys": f"tenant:{hashlib.sha256(KEY.encode()).hexdigest()}\n"},
    }
    return [config, keys]


def _playable(deployment: Object, image: str, port: int) -> Object:
    """Return the Deployment with one replica of `image` on a loopback port.

    podman 4 supports no subPath for a ConfigMap, so the whole folder is mounted at another path. It does not decode the
    values of a Secret, so the API keys are in a ConfigMap.
    """
    deployment["spec"]["replicas"] = 1
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container |= {"image": image, "imagePullPolicy": "Never"}
    (http,) = container["ports"]
    http |= {"hostIP": "127.0.0.1", "hostPort": port}
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "config"]
    del mount["subPath"]
    mount["mountPath"] = "/etc/config"
    (variable,) = [each for each in container["env"] if each["name"] == "SECONDPASS_CONFIG"]
    variable["value"] = "/etc/config/secondpass.toml"
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    (secret,) = [each for each in volumes if "secret" in each]
    assert secret.pop("secret")["secretName"] == KEYS
    secret["configMap"] = {"name": KEYS}
    return deployment


@contextmanager
def _played(containers: Containers, manifest: Path) -> Iterator[str]:
    """Play a manifest and yield the name of its container."""
    containers.podman("kube", "play", "--network", NETWORK, manifest)
    try:
        names = containers.podman("ps", "--all", "--format", "{{.Names}}").split()
        (name,) = [each for each in names if each.endswith("-secondpass")]
        yield name
    finally:
        containers.podman("kube", "down", manifest)


@contextmanager
def _client(port: int) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:
        yield client


def test_pod_solves_with_the_restrictions_of_the_manifest(pod: Pod) -> None:
    solved = pod.solve()
    seen = pod.containers.inspect("container", pod.name)
    process = pod.containers.podman("exec", pod.name, "cat", "/proc/1/status")

    assert solved.status_code == 200, solved.text
    assert "42" in solved.json()["text"]
    assert (
        pod.client.post("/solve", json=QUESTION, headers={"authorization": ""}).status_code == 401
    )
    assert seen["HostConfig"]["ReadonlyRootfs"] is True
    assert seen["Config"]["User"].startswith("2000")
    assert "CapEff:\t0000000000000000" in process
    assert "NoNewPrivs:\t1" in process


def test_deleted_pod_serves_during_pre_stop_finishes_solves_and_exits_with_0(
    pod: Pod,
) -> None:
    grace = pod.spec["terminationGracePeriodSeconds"]
    pre_stop = pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    variables = pod.containers.podman("exec", pod.name, "env").split()
    assert f"SECONDPASS_SHUTDOWN_GRACE_SECONDS={grace}" in variables

    start = time.monotonic()
    assert pod.solve().status_code == 200
    solve_seconds = time.monotonic() - start
    time.sleep(max(0.0, pre_stop - solve_seconds))
    replies: list[httpx.Response] = []
    running = threading.Thread(target=lambda: replies.append(pod.solve()))
    running.start()
    time.sleep(solve_seconds / 4)
    start = time.monotonic()
    pod.containers.podman("stop", "--time", str(grace), pod.name, seconds=grace + 60)
    stop_seconds = time.monotonic() - start
    running.join(60)

    state = pod.containers.inspect("container", pod.name)["State"]
    assert [reply.status_code for reply in replies] == [200]
    assert "42" in replies[0].json()["text"]
    assert state["ExitCode"] == 0
    # The process waits only for the running solve.
    assert solve_seconds / 4 < stop_seconds < pre_stop + solve_seconds + 30
