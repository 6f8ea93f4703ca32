"""Which connections the NetworkPolicies of an overlay admit, as Kubernetes decides it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.k8s.manifests import Object, containers, find_object, of_kind, pod_labels, selects
from tests.k8s.policy.registry import workloads

NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """A pod at the other end of a connection, by its labels and the name of its namespace."""

    labels: Mapping[str, str]
    namespace: str | None


EXTERNAL = None
"""An address that is no pod's: the Kubernetes API, or a server outside the cluster."""


def is_external(url: str) -> bool:
    """Whether an address is outside the cluster: a name with dots that is not a Service's."""
    host = urlsplit(url).hostname or ""
    return "." in host and not host.removesuffix(".cluster.local").endswith(".svc")


def url_port(url: str) -> int:
    """The port of an address, given or by its scheme."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def peer_of(workload: Object) -> Peer:
    """A pod of a Deployment."""
    return Peer(pod_labels(workload), workload["metadata"].get("namespace"))


def service_endpoints(
    objects: Sequence[Object], service: str, port: str | int
) -> list[tuple[Object, int | None]]:
    """The workloads that a Service selects, each with the port of its container behind `port`, a name or a number."""
    there = [one["metadata"]["name"] for one in of_kind(objects, "Service")]
    if service not in there:
        return []
    spec = find_object(objects, "Service", service)["spec"]
    target = next(
        (one.get("targetPort", one["port"]) for one in spec["ports"] if port in _names(one)), None
    )
    return [
        (one, container_port(one, target))
        for one in workloads(objects)
        if selects(spec["selector"], pod_labels(one))
    ]


def _names(port: Object) -> tuple[Any, Any]:
    return port.get("name"), port["port"]


def container_port(workload: Object, name: str | int | None) -> int | None:
    """The number of a port that a container of a Deployment names."""
    ports = [one for _, container in containers(workload) for one in container.get("ports", [])]
    numbers: list[int] = [
        one["containerPort"] for one in ports if name in (one.get("name"), one["containerPort"])
    ]
    return numbers[0] if numbers else None


def can_connect(
    objects: Sequence[Object], source: Object, target: Object, port: int | None
) -> bool:
    """Whether a pod may open a connection to a port of another: both ends admit it."""
    return allows_egress(objects, source, peer_of(target), port) and allows_ingress(
        objects, target, peer_of(source), port
    )


def allows_egress(
    objects: Sequence[Object],
    source: Object,
    to: Peer | None,
    port: int | None,
    protocol: str = "TCP",
) -> bool:
    """Whether a pod's policies let it connect to a peer, or to an address outside."""
    return _allows(objects, source, to, port, protocol, egress=True)


def allows_ingress(
    objects: Sequence[Object], target: Object, source: Peer, port: int | None, protocol: str = "TCP"
) -> bool:
    """Whether a pod's policies admit a peer."""
    return _allows(objects, target, source, port, protocol, egress=False)


def _allows(
    objects: Sequence[Object],
    own: Object,
    other: Peer | None,
    port: int | None,
    protocol: str,
    *,
    egress: bool,
) -> bool:
    direction, rules, peers = (
        ("Egress", "egress", "to") if egress else ("Ingress", "ingress", "from")
    )
    policies = [
        one["spec"]
        for one in of_kind(objects, "NetworkPolicy")
        if selects(one["spec"]["podSelector"], pod_labels(own))
        and direction in one["spec"]["policyTypes"]
    ]
    namespace = own["metadata"].get("namespace")
    return not policies or any(
        matches_port(rule, port, protocol)
        and (not rule.get(peers) or any(_is(one, other, namespace) for one in rule[peers]))
        for policy in policies
        for rule in policy.get(rules, [])
    )


def matches_port(rule: Object, port: int | None, protocol: str = "TCP") -> bool:
    """Whether a rule of a NetworkPolicy is for a port of a container. Ports are numbers in our manifests."""
    return not rule.get("ports") or any(
        one.get("protocol", "TCP") == protocol
        and ("port" not in one or (port is not None and _in_range(one, port)))
        for one in rule["ports"]
    )


def _in_range(given: Object, port: int) -> bool:
    assert isinstance(given["port"], int), "names of ports are not resolved"
    return bool(given["port"] <= port <= given.get("endPort", given["port"]))


def _is(given: Object, other: Peer | None, namespace: str | None) -> bool:
    """Whether an entry of `from` or `to` means a peer."""
    if other is EXTERNAL or "ipBlock" in given:
        return other is EXTERNAL and "ipBlock" in given
    is_there = (
        selects(given["namespaceSelector"], {NAMESPACE_NAME: other.namespace or ""})
        if "namespaceSelector" in given
        else other.namespace == namespace
    )
    return is_there and selects(given.get("podSelector", {}), other.labels)
