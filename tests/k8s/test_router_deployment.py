"""A real vllm-router with the manifest's arguments discovers the overlay's engines, and drains.

A fake Kubernetes API lists one pod for each rendered Deployment.
"""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.k8s.manifests import Object, find_object, of_kind, pod_labels, pod_spec, render_overlay
from tests.k8s.tools import router_environment
from tools.processes import Child, free_port, serving

pytestmark = pytest.mark.compat

START_SECONDS = 60.0
CALL_SECONDS = 2.0


class _Handler(BaseHTTPRequestHandler):
    """Base of the HTTP servers in this module."""

    def reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _served(handler: type[_Handler], host: str, port: int) -> Iterator[None]:
    with ThreadingHTTPServer((host, port), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Cluster:
    """One pod for each Deployment of an overlay, on loopback addresses, and the API that lists them."""

    def __init__(self, objects: list[Object]) -> None:
        self.requests: list[str] = []
        self.stopped = threading.Event()
        self.hosts: dict[str, str] = {}
        self._pods: list[Object] = []
        for number, workload in enumerate(of_kind(objects, "Deployment"), start=2):
            name = workload["metadata"]["name"]
            self.hosts[name] = f"127.0.0.{number}"
            self._pods.append(_pod(name, pod_labels(workload), self.hosts[name]))

    def handler(self) -> type[_Handler]:
        cluster = self

        class Api(_Handler):
            def do_GET(self) -> None:
                cluster.requests.append(self.path)
                if "watch=true" in self.path:
                    self.send_response(200)
                    self.end_headers()
                    cluster.stopped.wait(START_SECONDS)
                    return
                listed = {
                    "apiVersion": "v1",
                    "kind": "PodList",
                    "metadata": {"resourceVersion": "1"},
                    "items": cluster._pods,
                }
                self.reply(json.dumps(listed).encode())

        return Api


def _pod(name: str, labels: object, address: str) -> Object:
    return {
        "metadata": {"name": name, "namespace": "secondpass", "labels": labels, "uid": name},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


class _Engine(_Handler):
    """A healthy engine that takes CALL_SECONDS for each call."""

    def do_GET(self) -> None:
        self.reply(b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(CALL_SECONDS)
        self.reply(json.dumps({"served_by": self.connection.getsockname()[0]}).encode())


def _arguments(container: Object, changed: dict[str, int]) -> list[str]:
    """Arguments of the manifest with changed numbers, a loopback host and the pod's namespace."""
    arguments = []
    for argument in container["args"]:
        name, separator, value = argument.partition("=")
        value = str(changed.get(name, value)).replace("$(POD_NAMESPACE)", "secondpass")
        arguments.append(f"{name}{separator}{value.replace('0.0.0.0', '127.0.0.1')}")
    return arguments


@contextmanager
def _routing(cluster: _Cluster, scratch: Path, **changed: int) -> Iterator[tuple[str, Child]]:
    """Run the router of the manifest; `changed` overrides its options."""
    ports = {
        "--port": free_port(),
        "--prometheus-port": free_port(),
        "--service-discovery-port": free_port(),
    }
    numbers = {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    container = pod_spec(find_object(render_overlay("split"), "Deployment", "vllm-router"))[
        "containers"
    ][0]
    program = router_environment() / "bin" / container["command"][0]
    api = free_port()
    access = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{api}"}}],
        "users": [{"name": "a", "user": {"token": "none"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    (scratch / "kubeconfig").write_text(json.dumps(access))
    url = f"http://127.0.0.1:{ports['--port']}"
    port = ports["--service-discovery-port"]
    with (
        _served(cluster.handler(), "127.0.0.1", api),
        _served(_Engine, cluster.hosts["vllm"], port),
        _served(_Engine, cluster.hosts["secondpass"], port),
    ):
        try:
            with serving(
                "vllm-router",
                [str(program), *_arguments(container, ports | numbers)],
                url + container["readinessProbe"]["httpGet"]["path"],
                scratch / "router.log",
                timeout=START_SECONDS,
                env={"KUBECONFIG": str(scratch / "kubeconfig")},
            ) as child:
                yield url, child
        finally:
            cluster.stopped.set()


def _call(url: str) -> httpx.Response:
    message = {"role": "user", "content": "What is 6 times 7?"}
    with httpx.Client(trust_env=False, timeout=30) as client:
        body = {"model": "model", "messages": [message]}
        return client.post(f"{url}/v1/chat/completions", json=body)


def test_router_discovers_only_engines_and_drains_before_exit(
    tmp_path: Path,
) -> None:
    cluster = _Cluster(render_overlay("split"))
    with _routing(cluster, tmp_path) as (url, child), ThreadPoolExecutor(1) as pool:
        assert httpx.get(f"{url}/liveness", trust_env=False).status_code == 200
        assert _call(url).json() == {"served_by": cluster.hosts["vllm"]}
        running = pool.submit(_call, url)
        time.sleep(CALL_SECONDS / 4)
        child.process.terminate()
        assert running.result().json() == {"served_by": cluster.hosts["vllm"]}
        assert child.process.wait(10) == 0
    # Only requests that the Role allows: pods of its own namespace.
    assert {path.split("?")[0] for path in cluster.requests} == {
        "/api/v1/namespaces/secondpass/pods"
    }
    role = find_object(render_overlay("split"), "Role", "vllm-router")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]


def test_router_aborts_calls_after_its_timeout(tmp_path: Path) -> None:
    """This is why the manifest sets a timeout above the longest solve."""
    cluster = _Cluster(render_overlay("split"))
    with _routing(cluster, tmp_path, request_timeout_secs=1) as (url, _):
        assert _call(url).is_server_error
