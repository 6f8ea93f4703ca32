"""Rules for connectivity: NetworkPolicies admit every connection that a component needs."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from tests.k8s.manifests import (
    Object,
    containers,
    of_kind,
    pod_labels,
    selects,
    settings_values,
)
from tests.k8s.policy.connectivity import (
    EXTERNAL,
    Peer,
    allows_egress,
    allows_ingress,
    can_connect,
    container_port,
    is_external,
    service_endpoints,
    url_port,
)
from tests.k8s.policy.registry import rule, runs_vllm, workloads

COMPONENT = "app.kubernetes.io/component"
API_PORT = 8000
DNS = Peer({"k8s-app": "kube-dns"}, "kube-system")
MONITORING = "monitoring"  # namespace of Prometheus unless an autoscaler names another
KUBERNETES_PORTS = (443, 6443)  # of the Service, and of the API server on many clusters


def of_component(objects: Sequence[Object], *names: str) -> list[Object]:
    """Workloads of the given components."""
    return [one for one in workloads(objects) if pod_labels(one).get(COMPONENT) in names]


def _name(workload: Object) -> str:
    name: str = workload["metadata"]["name"]
    return name


@rule
def orchestrators_reach_their_engines(objects: Sequence[Object]) -> Iterator[str]:
    """Policies at both ends admit calls to each engine, on the target port of its Service."""
    for name, engine in settings_values(objects).get("engines", {}).items():
        url = engine["url"]
        if is_external(url):
            for source in of_component(objects, "orchestrator"):
                if not allows_egress(objects, source, EXTERNAL, url_port(url)):
                    yield f"{_name(source)} does not reach {url}"
            continue
        behind = service_endpoints(objects, urlsplit(url).hostname or "", url_port(url))
        if not behind:
            yield f"engine {name}: no pods behind {url}"
        for source in of_component(objects, "orchestrator"):
            for target, port in behind:
                if not can_connect(objects, source, target, port):
                    yield f"{_name(source)} does not reach {_name(target)} at port {port}"


@rule
def routers_reach_engines_and_the_kubernetes_api(objects: Sequence[Object]) -> Iterator[str]:
    """A router discovers engines and reaches them.

    It reaches the Kubernetes API, its selector matches engines only, and its discovery port is open on them.
    """
    for router in of_component(objects, "router"):
        arguments = [
            argument
            for _, container in containers(router)
            if container.get("command", [])[:1] == ["vllm-router"]
            for argument in container.get("args", [])
        ]
        selector = _after(arguments, "--selector")
        chosen = [one for one in workloads(objects) if selects(selector, pod_labels(one))]
        if not selector or chosen != of_component(objects, "engine") or not chosen:
            yield f"{_name(router)}: selects {[_name(one) for one in chosen]}"
        port = _number(arguments, "--service-discovery-port")
        for engine in chosen:
            if container_port(engine, port) is None:
                yield f"{_name(router)}: {_name(engine)} has no port {port}"
            if not can_connect(objects, router, engine, port):
                yield f"{_name(router)} does not reach {_name(engine)} at port {port}"
        for port in KUBERNETES_PORTS:
            if not allows_egress(objects, router, EXTERNAL, port):
                yield f"{_name(router)} does not reach the Kubernetes API at port {port}"


def _after(arguments: Sequence[str], option: str) -> dict[str, str]:
    """Labels that follow an option."""
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
def engines_admit_routers_and_orchestrators(objects: Sequence[Object]) -> Iterator[str]:
    """Every engine is reachable from orchestrators and routers, so that a router stays optional."""
    for engine in of_component(objects, "engine"):
        for source in of_component(objects, "orchestrator", "router"):
            if not can_connect(objects, source, engine, container_port(engine, "http")):
                yield f"{_name(source)} does not reach {_name(engine)}"


@rule
def clients_in_the_namespace_reach_orchestrators(objects: Sequence[Object]) -> Iterator[str]:
    """Clients in the overlay's namespace need no particular label."""
    for target in of_component(objects, "orchestrator"):
        client = Peer({}, target["metadata"].get("namespace"))
        if not allows_ingress(objects, target, client, container_port(target, "http")):
            yield f"{_name(target)} does not admit clients of its namespace"


@rule
def every_pod_reaches_dns(objects: Sequence[Object]) -> Iterator[str]:
    """DNS is reachable over UDP, and over TCP for long responses."""
    for workload in workloads(objects):
        for protocol in ("UDP", "TCP"):
            if not allows_egress(objects, workload, DNS, 53, protocol):
                yield f"{_name(workload)} does not reach DNS over {protocol}"


@rule
def engines_reach_the_model_hub(objects: Sequence[Object]) -> Iterator[str]:
    """Pods that download a model reach the hub over HTTPS."""
    for workload in workloads(objects):
        for name, container in containers(workload):
            if downloads_model(container, objects) and not allows_egress(
                objects, workload, EXTERNAL, 443
            ):
                yield f"{name} does not reach the model hub"


def downloads_model(container: Object, objects: Sequence[Object]) -> bool:
    """Return whether a container downloads its model. A model given as a path is in the image."""
    model = (container.get("args") or [""])[0]
    if container["name"] == "secondpass" and not container.get("command"):
        model = settings_values(objects).get("model", "")
    return runs_vllm(container, objects) and not model.startswith("/")


def prometheus_namespaces(objects: Sequence[Object]) -> set[str]:
    """Namespaces of Prometheus, from the server addresses of the autoscalers."""
    addresses = [
        trigger["metadata"]["serverAddress"]
        for scaled in of_kind(objects, "ScaledObject")
        for trigger in scaled["spec"]["triggers"]
        if "serverAddress" in trigger["metadata"]
    ]
    hosts = [urlsplit(address).hostname or "" for address in addresses]
    return {host.split(".")[1] for host in hosts} or {MONITORING}


@rule
def prometheus_reaches_its_targets(objects: Sequence[Object]) -> Iterator[str]:
    """Prometheus may connect to the ports of each ServiceMonitor."""
    namespaces = prometheus_namespaces(objects)
    for monitor in of_kind(objects, "ServiceMonitor"):
        for service in of_kind(objects, "Service"):
            if not selects(monitor["spec"]["selector"], service["metadata"]["labels"]):
                continue
            for endpoint in monitor["spec"]["endpoints"]:
                for target, port in service_endpoints(
                    objects, service["metadata"]["name"], endpoint["port"]
                ):
                    for namespace in sorted(namespaces):
                        if not allows_ingress(objects, target, Peer({}, namespace), port):
                            yield f"{_name(target)} does not admit {namespace} to port {port}"


@rule
def gateways_reach_their_backends(objects: Sequence[Object]) -> Iterator[str]:
    """The gateway of each HTTPRoute may connect to the pods of its backends."""
    for route in of_kind(objects, "HTTPRoute"):
        gateways = {one["namespace"] for one in route["spec"]["parentRefs"]}
        backends = [one for each in route["spec"]["rules"] for one in each["backendRefs"]]
        for backend in backends:
            behind = service_endpoints(objects, backend["name"], backend["port"])
            if not behind:
                yield f"no pods behind port {backend['port']} of {backend['name']}"
            for target, port in behind:
                for namespace in sorted(gateways):
                    if not allows_ingress(objects, target, Peer({}, namespace), port):
                        yield f"{_name(target)} does not admit {namespace} to port {port}"
