"""Rules for NetworkPolicies: what must be reached is reached."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from tests.k8s.manifests import (
    Object,
    containers,
    labels_of,
    of_kind,
    selects,
    settings_values,
)
from tests.k8s.policy.reach import (
    OUTSIDE,
    Peer,
    admits,
    connects,
    container_port,
    is_outside,
    pods_behind,
    port_of,
    sends,
)
from tests.k8s.policy.registry import rule, runs_vllm, workloads

COMPONENT = "app.kubernetes.io/component"
API_PORT = 8000
DNS = Peer({"k8s-app": "kube-dns"}, "kube-system")
MONITORING = "monitoring"  # the namespace of Prometheus where no autoscaler names it
KUBERNETES_PORTS = (443, 6443)  # the Service's port, and the one behind it on many clusters


def of_component(found: Sequence[Object], *names: str) -> list[Object]:
    """The workloads of these components."""
    return [one for one in workloads(found) if labels_of(one).get(COMPONENT) in names]


def _name(workload: Object) -> str:
    name: str = workload["metadata"]["name"]
    return name


@rule
def orchestrators_reach_their_engines(found: Sequence[Object]) -> Iterator[str]:
    """The policies at both ends admit each engine's address, at the port of the pods behind its Service."""
    for name, engine in settings_values(found).get("engines", {}).items():
        url = engine["url"]
        if is_outside(url):
            for source in of_component(found, "orchestrator"):
                if not sends(found, source, OUTSIDE, port_of(url)):
                    yield f"{_name(source)} does not reach {url}"
            continue
        behind = pods_behind(found, urlsplit(url).hostname or "", port_of(url))
        if not behind:
            yield f"engine {name}: no pods behind {url}"
        for source in of_component(found, "orchestrator"):
            for target, port in behind:
                if not connects(found, source, target, port):
                    yield f"{_name(source)} does not reach {_name(target)} at port {port}"


@rule
def routers_reach_engines_and_the_kubernetes_api(found: Sequence[Object]) -> Iterator[str]:
    """A router finds pods through the API, selects engines alone, and reaches them at the port that it asks."""
    for router in of_component(found, "router"):
        arguments = [
            argument
            for _, container in containers(router)
            if container.get("command", [])[:1] == ["vllm-router"]
            for argument in container.get("args", [])
        ]
        selector = _after(arguments, "--selector")
        chosen = [one for one in workloads(found) if selects(selector, labels_of(one))]
        if not selector or chosen != of_component(found, "engine") or not chosen:
            yield f"{_name(router)}: finds {[_name(one) for one in chosen]}"
        port = _number(arguments, "--service-discovery-port")
        for engine in chosen:
            if container_port(engine, port) is None:
                yield f"{_name(router)}: {_name(engine)} has no port {port}"
            if not connects(found, router, engine, port):
                yield f"{_name(router)} does not reach {_name(engine)} at port {port}"
        for port in KUBERNETES_PORTS:
            if not sends(found, router, OUTSIDE, port):
                yield f"{_name(router)} does not reach the Kubernetes API at port {port}"


def _after(arguments: Sequence[str], option: str) -> dict[str, str]:
    """The labels that follow an option."""
    pairs: list[str] = []
    if option in arguments:
        for argument in arguments[arguments.index(option) + 1 :]:
            if argument.startswith("--"):
                break
            pairs.append(argument)
    return dict(pair.split("=", 1) for pair in pairs)


def _number(arguments: Sequence[str], option: str) -> int | None:
    values = [one.partition("=")[2] for one in arguments if one.startswith(f"{option}=")]
    return int(values[0]) if values else None


@rule
def engines_admit_routers_and_orchestrators(found: Sequence[Object]) -> Iterator[str]:
    """Every engine is reached from every pod that may call it, with or without a router between them."""
    for engine in of_component(found, "engine"):
        for source in of_component(found, "orchestrator", "router"):
            if not connects(found, source, engine, container_port(engine, "http")):
                yield f"{_name(source)} does not reach {_name(engine)}"


@rule
def clients_of_the_namespace_reach_orchestrators(found: Sequence[Object]) -> Iterator[str]:
    """A client in the overlay's namespace needs no label of ours."""
    for target in of_component(found, "orchestrator"):
        client = Peer({}, target["metadata"].get("namespace"))
        if not admits(found, target, client, container_port(target, "http")):
            yield f"{_name(target)} does not admit clients of its namespace"


@rule
def every_pod_reaches_dns(found: Sequence[Object]) -> Iterator[str]:
    """Names are resolved over UDP, and over TCP where an answer is long."""
    for workload in workloads(found):
        for protocol in ("UDP", "TCP"):
            if not sends(found, workload, DNS, 53, protocol):
                yield f"{_name(workload)} does not reach DNS over {protocol}"


@rule
def models_are_downloaded(found: Sequence[Object]) -> Iterator[str]:
    """A pod that loads a model from the hub reaches it over HTTPS."""
    for workload in workloads(found):
        for name, container in containers(workload):
            if downloads_a_model(container, found) and not sends(found, workload, OUTSIDE, 443):
                yield f"{name} does not reach the hub of models"


def downloads_a_model(container: Object, found: Sequence[Object]) -> bool:
    """Whether a container loads a model from the hub. A model that is a folder is in the image."""
    model = (container.get("args") or [""])[0]
    if container["name"] == "secondpass" and not container.get("command"):
        model = settings_values(found).get("model", "")
    return runs_vllm(container, found) and not model.startswith("/")


def prometheus_namespaces(found: Sequence[Object]) -> set[str]:
    """The namespaces of Prometheus, by the addresses that autoscalers ask."""
    addresses = [
        trigger["metadata"]["serverAddress"]
        for scaled in of_kind(found, "ScaledObject")
        for trigger in scaled["spec"]["triggers"]
        if "serverAddress" in trigger["metadata"]
    ]
    hosts = [urlsplit(address).hostname or "" for address in addresses]
    return {host.split(".")[1] for host in hosts} or {MONITORING}


@rule
def prometheus_reaches_what_it_scrapes(found: Sequence[Object]) -> Iterator[str]:
    """The namespace of Prometheus is admitted to the port of each ServiceMonitor."""
    namespaces = prometheus_namespaces(found)
    for monitor in of_kind(found, "ServiceMonitor"):
        for service in of_kind(found, "Service"):
            if not selects(monitor["spec"]["selector"], service["metadata"]["labels"]):
                continue
            for endpoint in monitor["spec"]["endpoints"]:
                for target, port in pods_behind(
                    found, service["metadata"]["name"], endpoint["port"]
                ):
                    for namespace in sorted(namespaces):
                        if not admits(found, target, Peer({}, namespace), port):
                            yield f"{_name(target)} does not admit {namespace} to port {port}"


@rule
def gateways_reach_their_backends(found: Sequence[Object]) -> Iterator[str]:
    """The namespace of each route's gateway is admitted to the pods that the route ends at."""
    for route in of_kind(found, "HTTPRoute"):
        gateways = {one["namespace"] for one in route["spec"]["parentRefs"]}
        backends = [one for each in route["spec"]["rules"] for one in each["backendRefs"]]
        for backend in backends:
            behind = pods_behind(found, backend["name"], backend["port"])
            if not behind:
                yield f"no pods behind port {backend['port']} of {backend['name']}"
            for target, port in behind:
                for namespace in sorted(gateways):
                    if not admits(found, target, Peer({}, namespace), port):
                        yield f"{_name(target)} does not admit {namespace} to port {port}"
