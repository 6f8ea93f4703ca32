"""The pod of the overlay `split`, played by podman: probes, a solve and the drain, in the order of a kubelet.

`podman kube play` ignores probes, preStop and the grace period. The test reads them from the manifest and performs them.
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

from tests.k8s.manifests import Object, named, of_kind, overlay
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
    """What runs, the manifest's container and grace period, and a client with a key."""

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
        """Ask as the kubelet does. Fails after as many failures as the manifest allows."""
        wanted = self.container[probe]
        for _ in range(wanted["failureThreshold"]):
            if self.answers(wanted):
                return
            time.sleep(wanted["periodSeconds"])
        pytest.fail(f"{probe} failed:\n{self.containers.logs(self.name)}")

    def answers(self, probe: Object) -> bool:
        """Whether one request of a probe succeeds."""
        get = probe["httpGet"]
        try:
            answer = self.client.get(get["path"], timeout=probe["timeoutSeconds"])
        except httpx.TransportError:
            return False
        return answer.is_success

    def solve(self) -> httpx.Response:
        return self.client.post("/solve", json=QUESTION)


@pytest.fixture(scope="module")
def upstream(
    containers: Containers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """A server of the scripted engine on every address, and its URL and model for a pod on the bridge."""
    folder, port = tmp_path_factory.mktemp("upstream"), free_port()
    model = next(iter(_settings(overlay("split"))["engines"].values()))["model"]
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
    """The Deployment `secondpass` with its ConfigMap and Secret, started and ready."""
    url, _ = upstream
    found, port = overlay("split"), free_port()
    deployment = named(found, "Deployment", "secondpass")
    spec = deployment["spec"]["template"]["spec"]
    manifest = tmp_path / "pod.yaml"
    given = [*_given_to_the_pod(found, url), _playable(deployment, service_image, port)]
    manifest.write_text(yaml.safe_dump_all(given))
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
    return [one for one in maps if one["metadata"]["name"].startswith("secondpass-config-")]


def _given_to_the_pod(found: list[Object], engine_url: str) -> list[Object]:
    """The ConfigMap with our engine's address, and the keys that an operator's Secret holds."""
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
    """One replica of our image on a port of loopback.

    podman 4 has no subPath for a ConfigMap, so the file is mounted with its folder, elsewhere. It writes the values of a
    Secret as they are encoded, so the keys are a ConfigMap.
    """
    deployment["spec"]["replicas"] = 1
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container |= {"image": image, "imagePullPolicy": "Never"}
    (http,) = container["ports"]
    http |= {"hostIP": "127.0.0.1", "hostPort": port}
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "config"]
    del mount["subPath"]
    mount["mountPath"] = "/etc/config"
    (variable,) = [one for one in container["env"] if one["name"] == "SECONDPASS_CONFIG"]
    variable["value"] = "/etc/config/secondpass.toml"
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    (secret,) = [one for one in volumes if "secret" in one]
    assert secret.pop("secret")["secretName"] == KEYS
    secret["configMap"] = {"name": KEYS}
    return deployment


@contextmanager
def _played(containers: Containers, manifest: Path) -> Iterator[str]:
    """Play a manifest and yield its container's name."""
    containers.podman("kube", "play", "--network", NETWORK, manifest)
    try:
        names = containers.podman("ps", "--all", "--format", "{{.Names}}").split()
        (name,) = [one for one in names if one.endswith("-secondpass")]
        yield name
    finally:
        containers.podman("kube", "down", manifest)


@contextmanager
def _client(port: int) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:
        yield client


def test_a_pod_becomes_ready_and_solves_with_the_restrictions_of_the_manifest(pod: Pod) -> None:
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


def test_a_pod_that_is_deleted_serves_during_pre_stop_ends_its_solves_and_exits_0(
    pod: Pod,
) -> None:
    grace = pod.spec["terminationGracePeriodSeconds"]
    pre_stop = pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    variables = pod.containers.podman("exec", pod.name, "env").split()
    assert f"SECONDPASS_SHUTDOWN_GRACE_SECONDS={grace}" in variables

    began = time.monotonic()
    assert pod.solve().status_code == 200
    seconds_of_a_solve = time.monotonic() - began
    time.sleep(max(0.0, pre_stop - seconds_of_a_solve))
    answers: list[httpx.Response] = []
    running = threading.Thread(target=lambda: answers.append(pod.solve()))
    running.start()
    time.sleep(seconds_of_a_solve / 4)
    began = time.monotonic()
    pod.containers.podman("stop", "--time", str(grace), pod.name, seconds=grace + 60)
    seconds_to_stop = time.monotonic() - began
    running.join(60)

    state = pod.containers.inspect("container", pod.name)["State"]
    assert [one.status_code for one in answers] == [200]
    assert "42" in answers[0].json()["text"]
    assert state["ExitCode"] == 0
    # It waited for the solve, and for nothing else.
    assert seconds_of_a_solve / 4 < seconds_to_stop < pre_stop + seconds_of_a_solve + 30
