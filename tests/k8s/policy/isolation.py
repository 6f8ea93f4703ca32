"""Rules for isolation: NetworkPolicies admit only the connections that are needed."""

from collections.abc import Iterator, Sequence

from tests.k8s.manifests import (
    Object,
    containers,
    of_kind,
    pod_labels,
    selects,
    settings_values,
)
from tests.k8s.policy.connectivity import NAMESPACE_NAME, container_port, is_external, url_port
from tests.k8s.policy.network import (
    API_PORT,
    COMPONENT,
    DNS,
    KUBERNETES_PORTS,
    downloads_model,
    prometheus_namespaces,
)
from tests.k8s.policy.registry import rule, workloads

Opening = tuple[str, str, str]
"""Peer, port and protocol that a NetworkPolicy admits."""

COMPONENTS = ("orchestrator", "engine", "router")
ANYTHING, ADDRESSES = "anything", "addresses"
OWN_NAMESPACE, SEVERAL_NAMESPACES = "all pods of the namespace", "several namespaces"
DNS_PODS = "pods of DNS"
PROJECT_LABELS = {"app.kubernetes.io/name": "secondpass", "app.kubernetes.io/part-of": "secondpass"}
UNRELATED_LABELS = {"app.kubernetes.io/name": "other", "app.kubernetes.io/part-of": "other"}


@rule
def egress_is_limited_to_required_peers(objects: Sequence[Object]) -> Iterator[str]:
    """Egress is limited to DNS, to engines and routers by label, and to single external ports.

    An external port is admitted only for pods that use it.
    """
    for workload in workloads(objects):
        needed = set(_needed(objects, workload))
        for policy, opening in _openings(objects, workload, "egress", "to"):
            if opening not in needed:
                yield f"{policy}: {_name(workload)} may reach {' '.join(opening)}"


@rule
def ingress_is_limited_to_documented_sources(objects: Sequence[Object]) -> Iterator[str]:
    """Ingress is limited to documented sources.

    Orchestrators admit their namespace, Prometheus and the gateway. Engines and routers admit their callers, and
    routers admit Prometheus to their metrics port.
    """
    for workload in workloads(objects):
        documented = set(_documented(objects, workload))
        for policy, opening in _openings(objects, workload, "ingress", "from"):
            if opening not in documented:
                yield f"{policy}: {_name(workload)} admits {' '.join(opening)}"


def _name(workload: Object) -> str:
    name: str = workload["metadata"]["name"]
    return name


def _needed(objects: Sequence[Object], workload: Object) -> Iterator[Opening]:
    yield from ((DNS_PODS, "53", protocol) for protocol in ("UDP", "TCP"))
    component = pod_labels(workload).get(COMPONENT)
    outside: set[int] = set()
    if component == "orchestrator":
        yield from ((peer, str(API_PORT), "TCP") for peer in ("engine", "router"))
        outside |= set(_ports_of_engines_outside(objects))
    if component == "router":
        yield "engine", str(API_PORT), "TCP"
        outside |= set(KUBERNETES_PORTS)
    if any(downloads_model(one, objects) for _, one in containers(workload)):
        outside.add(443)
    for port in outside:
        yield from ((peer, str(port), "TCP") for peer in (ANYTHING, ADDRESSES))


def _ports_of_engines_outside(objects: Sequence[Object]) -> Iterator[int]:
    for engine in settings_values(objects).get("engines", {}).values():
        if is_external(url := engine.get("url", "")):
            yield url_port(url)


def _documented(objects: Sequence[Object], workload: Object) -> Iterator[Opening]:
    prometheus = {f"namespace {name}" for name in prometheus_namespaces(objects)}
    gateways = {
        f"namespace {parent['namespace']}"
        for route in of_kind(objects, "HTTPRoute")
        for parent in route["spec"]["parentRefs"]
        if "namespace" in parent
    }
    sources = {
        "orchestrator": {OWN_NAMESPACE, *COMPONENTS, *prometheus, *gateways},
        "engine": {"orchestrator", "router"},
        "router": {"orchestrator"},
    }
    component = pod_labels(workload).get(COMPONENT, "")
    yield from ((source, str(API_PORT), "TCP") for source in sources.get(component, ()))
    if component == "router":
        metrics = str(container_port(workload, "metrics"))
        yield from ((source, metrics, "TCP") for source in prometheus)


def _openings(
    objects: Sequence[Object], workload: Object, direction: str, peers: str
) -> Iterator[tuple[str, Opening]]:
    """Each peer and port that the policies of a workload admit, with the policy's name."""
    for policy in of_kind(objects, "NetworkPolicy"):
        if not selects(policy["spec"]["podSelector"], pod_labels(workload)):
            continue
        for one in policy["spec"].get(direction, []):
            names = [name for given in one.get(peers) or [{}] for name in _peers(given)]
            for port, protocol in map(_port, one.get("ports") or [{}]):
                for name in names:
                    yield f"NetworkPolicy {_name(policy)}", (name, port, protocol)


def _port(given: Object) -> tuple[str, str]:
    port = str(given.get("port", "all ports"))
    end = f"-{given['endPort']}" if "endPort" in given else ""
    return port + end, given.get("protocol", "TCP")


def _peers(given: Object) -> set[str]:
    """Peers that an entry of `from` or `to` matches."""
    if not given:
        return {ANYTHING}
    if "ipBlock" in given:
        return {ADDRESSES}
    if "namespaceSelector" not in given:
        return _components(given["podSelector"])
    (name, *more) = given["namespaceSelector"].get("matchLabels", {}).values() or [""]
    if given["namespaceSelector"] != {"matchLabels": {NAMESPACE_NAME: name}} or more:
        return {SEVERAL_NAMESPACES}
    is_dns = given.get("podSelector") == {"matchLabels": DNS.labels}
    return {DNS_PODS if is_dns and name == DNS.namespace else f"namespace {name}"}


def _components(selector: Object) -> set[str]:
    """Components that a selector matches, or OWN_NAMESPACE if it also matches unrelated pods."""
    unrelated = [{}, PROJECT_LABELS, *(UNRELATED_LABELS | {COMPONENT: name} for name in COMPONENTS)]
    if any(selects(selector, labels) for labels in unrelated):
        return {OWN_NAMESPACE}
    return {name for name in COMPONENTS if selects(selector, PROJECT_LABELS | {COMPONENT: name})}
