"""Rules for Services, routes, engines, routers and monitors."""

from collections.abc import Iterator, Sequence
from functools import cache
from urllib.parse import urlsplit

import yaml

from secondpass.service.config.settings import Settings
from secondpass.service.http.access.browser_rules import OPEN_PATHS
from secondpass.service.server.app import create_app
from tests.http.serving import settings_of
from tests.k8s.manifests import (
    K8S,
    Object,
    containers,
    of_kind,
    pod_labels,
    selects,
    settings_values,
)
from tests.k8s.policy.connectivity import is_external, matches_port
from tests.k8s.policy.registry import all_containers, rule, workloads

JOB = "secondpass"
ENDPOINT_PICKER = K8S / "components/router/llm-d/epp-config.yaml"


@rule
def selectors_match(objects: Sequence[Object]) -> Iterator[str]:
    """Each Deployment selects only its own pods.

    It has one PodDisruptionBudget, and NetworkPolicies for ingress and egress.
    """
    for workload in workloads(objects):
        name, labels = workload["metadata"]["name"], pod_labels(workload)
        chosen = [
            one["metadata"]["name"]
            for one in workloads(objects)
            if selects(workload["spec"]["selector"], pod_labels(one))
        ]
        if chosen != [name]:
            yield f"{name}: selects {chosen}"
        budgets = [
            one
            for one in of_kind(objects, "PodDisruptionBudget")
            if selects(one["spec"]["selector"], labels)
        ]
        if [one["spec"].get("maxUnavailable") for one in budgets] != [1]:
            yield f"{name}: needs one PodDisruptionBudget with maxUnavailable 1"
        directions = {
            direction
            for one in of_kind(objects, "NetworkPolicy")
            if selects(one["spec"]["podSelector"], labels)
            for direction in one["spec"]["policyTypes"]
        }
        if directions != {"Ingress", "Egress"}:
            yield f"{name}: NetworkPolicies cover {sorted(directions)}"
    for one in of_kind(objects, "PodDisruptionBudget", "NetworkPolicy"):
        selector = one["spec"].get("podSelector", one["spec"].get("selector", {}))
        if not any(selects(selector, pod_labels(workload)) for workload in workloads(objects)):
            yield f"{one['kind']} {one['metadata']['name']} selects nothing"


@rule
def services_reach_their_pods(objects: Sequence[Object]) -> Iterator[str]:
    """Each targetPort exists in the selected pods and is admitted by a NetworkPolicy."""
    for service in of_kind(objects, "Service"):
        name = service["metadata"]["name"]
        chosen = [
            one
            for one in workloads(objects)
            if selects(service["spec"]["selector"], pod_labels(one))
        ]
        if len(chosen) != 1:
            yield f"Service {name} selects {len(chosen)} workloads"
            continue
        ports = {
            port.get(key): port["containerPort"]
            for _, container in containers(chosen[0])
            for port in container.get("ports", [])
            for key in ("name", "containerPort")
        }
        rules = [
            one
            for policy in of_kind(objects, "NetworkPolicy")
            if selects(policy["spec"]["podSelector"], pod_labels(chosen[0]))
            for one in policy["spec"].get("ingress", [])
        ]
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if target not in ports:
                yield f"Service {name}: the pods have no port {target}"
            elif not any(matches_port(one, ports[target]) for one in rules):
                yield f"Service {name}: no NetworkPolicy admits {target}"


@rule
def services_are_cluster_internal(objects: Sequence[Object]) -> Iterator[str]:
    """All Services are of type ClusterIP, without node ports and external IPs."""
    for service in of_kind(objects, "Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        if spec.get("type", "ClusterIP") != "ClusterIP":
            yield f"Service {name} is of type {spec['type']}"
        if spec.get("externalIPs") or any("nodePort" in port for port in spec["ports"]):
            yield f"Service {name} is reachable from outside the cluster"
    for one in of_kind(objects, "Ingress"):
        yield f"Ingress {one['metadata']['name']} is not checked: use an HTTPRoute"


@rule
def engine_services_and_models_exist(objects: Sequence[Object]) -> Iterator[str]:
    """Each in-cluster engine URL is a Service of the overlay, and vLLM serves the engine's model."""
    ports = {
        one["metadata"]["name"]: [port["port"] for port in one["spec"]["ports"]]
        for one in of_kind(objects, "Service")
    }
    served = [
        next((one for one in container.get("args", []) if not one.startswith("-")), "")
        for name, container in all_containers(objects)
        if container.get("command") == ["vllm", "serve"] and not name.startswith("secondpass/")
    ]
    for name, engine in settings_values(objects).get("engines", {}).items():
        if is_external(engine.get("url", "")):
            continue
        address = urlsplit(engine.get("url", ""))
        if address.port not in ports.get(address.hostname or "", []):
            yield f"engine {name}: {engine.get('url')} is not a Service of this overlay"
        if engine.get("model") not in served:
            yield f"engine {name}: no vLLM container serves {engine.get('model')}"


@rule
def external_engines_use_https_and_keys_and_get_no_sessions(
    objects: Sequence[Object],
) -> Iterator[str]:
    """External engines are called over HTTPS with a key, without session and tenant headers."""
    for name, engine in settings_values(objects).get("engines", {}).items():
        if not is_external(engine.get("url", "")):
            continue
        if urlsplit(engine["url"]).scheme != "https":
            yield f"engine {name}: not called over HTTPS"
        if not engine.get("key_env"):
            yield f"engine {name}: key_env is not set"
        if engine.get("session_headers") != [] or engine.get("tenant_headers", []):
            yield f"engine {name}: receives sessions or tenants"


@rule
def hashing_routers_get_sessions_with_every_call(objects: Sequence[Object]) -> Iterator[str]:
    """Every call has a session, because `consistent_hash` sends all calls without one to one engine."""
    hashes = any(
        "--policy=consistent_hash" in each.get("args", []) for _, each in all_containers(objects)
    )
    values = settings_values(objects)
    expected = {"session_of_large_votes": "split", "session_of_forwards": "opening"}
    for key, value in expected.items():
        if hashes and values.get(key) != value:
            yield f"{key} is not {value!r}"


@rule
def llm_d_and_sessions_spread_votes_equally(objects: Sequence[Object]) -> Iterator[str]:
    """maxPerReplica of llm-d's endpoint picker equals session_max_n."""
    default = Settings.model_fields["session_max_n"].default
    of_sessions = settings_values(objects).get("session_max_n", default)
    plugins = yaml.safe_load(ENDPOINT_PICKER.read_text())["plugins"]
    of_pods = [
        one["parameters"]["maxPerReplica"]
        for one in plugins
        if one["type"] == "burst-prefix-cache-producer"
    ]
    if of_pods != [of_sessions]:
        yield f"session_max_n is {of_sessions}, and maxPerReplica of {ENDPOINT_PICKER.name} {of_pods}"


@rule
def routes_disable_timeouts(objects: Sequence[Object]) -> Iterator[str]:
    """Every rule of an HTTPRoute disables the gateway's timeouts and has a Service as backend."""
    services = {one["metadata"]["name"] for one in of_kind(objects, "Service")}
    for route in of_kind(objects, "HTTPRoute"):
        for number, one in enumerate(route["spec"]["rules"]):
            if one.get("timeouts") != {"request": "0s", "backendRequest": "0s"}:
                yield f"rule {number} of an HTTPRoute has a timeout"
            if not {backend["name"] for backend in one["backendRefs"]} <= services:
                yield f"rule {number} of an HTTPRoute has a missing backend"


@rule
def routers_hash_sessions_and_do_not_retry(objects: Sequence[Object]) -> Iterator[str]:
    """Routers hash sessions for prefix caching; retries are left to secondpass, within the budget."""
    for name, container in all_containers(objects):
        if container.get("command", [])[:1] == ["vllm-router"]:
            arguments = container.get("args", [])
            if "--disable-retries" not in arguments:
                yield f"{name}: retries are not disabled"
            policies = [one for one in arguments if one.startswith("--policy")]
            if policies != ["--policy=consistent_hash"]:
                yield f"{name}: does not hash sessions: {policies}"


@rule
def routes_expose_only_the_api(objects: Sequence[Object]) -> Iterator[str]:
    """Routes match every path of the API, and no path that needs no key: metrics and probes."""
    inside, outside = _paths()
    for route in of_kind(objects, "HTTPRoute"):
        matches = [one for each in route["spec"]["rules"] for one in each.get("matches", [{}])]
        for path in sorted(outside):
            if not any(_matches(one, path) for one in matches):
                yield f"{path} is not reachable through the gateway"
        for path in sorted(inside):
            if any(_matches(one, path) for one in matches):
                yield f"{path} is reachable through the gateway"


@cache
def _paths() -> tuple[frozenset[str], frozenset[str]]:
    """Paths that need no key, and paths of the API with its OpenAPI document."""
    app = create_app(settings_of(engine="scripted"))
    assert app.openapi_url
    return OPEN_PATHS, frozenset([*app.openapi()["paths"], app.openapi_url]) - OPEN_PATHS


def _matches(match: Object, path: str) -> bool:
    given = match.get("path", {"type": "PathPrefix", "value": "/"})
    value: str = given["value"].rstrip("/")
    if given["type"] == "Exact":
        return path == value
    assert given["type"] == "PathPrefix", "regular expressions are not supported"
    return path == value or path.startswith(f"{value}/")


@rule
def service_monitors_select_the_service(objects: Sequence[Object]) -> Iterator[str]:
    """A ServiceMonitor selects the Service `secondpass`, its port and /metrics.

    Its series have the job label that alerts and KEDA select.
    """
    for monitor in of_kind(objects, "ServiceMonitor"):
        spec = monitor["spec"]
        chosen = [
            one
            for one in of_kind(objects, "Service")
            if selects(spec["selector"], one["metadata"]["labels"])
        ]
        if [one["metadata"]["name"] for one in chosen] != ["secondpass"]:
            yield f"ServiceMonitor selects {len(chosen)} Services"
        for service in chosen:
            ports = [port["name"] for port in service["spec"]["ports"]]
            if [one["port"] for one in spec["endpoints"]] != ports:
                yield f"ServiceMonitor scrapes other ports than {ports}"
            if service["metadata"]["labels"].get(spec.get("jobLabel")) != JOB:
                yield f"ServiceMonitor does not set the job {JOB}"
        if "namespaceSelector" in spec:
            yield "ServiceMonitor selects other namespaces"
        if [one.get("path") for one in spec["endpoints"]] != ["/metrics"]:
            yield "ServiceMonitor does not scrape /metrics"
