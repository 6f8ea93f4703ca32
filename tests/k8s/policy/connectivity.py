"""Evaluation of NetworkPolicies: connections that an overlay admits, by the rules of Kubernetes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.k8s.manifests import Object, containers, find_object, of_kind, pod_labels, selects
from tests.k8s.policy.registry import workloads

NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """Pod at the other end of a connection: its labels and the name of its namespace."""

    labels: Mapping[str, str]
    namespace: str | None


EXTERNAL = None
"""Peer that is not a pod: the Kubernetes API, or a server outside the cluster."""


def is_external(url: str) -> bool:
    """Return whether a URL is outside the cluster: its host has dots and is not a Service name."""
    host = urlsplit(url).hostname or ""
    return "." in host and not host.removesuffix(".cluster.local").endswith(".svc")


def url_port(url: str) -> int:
    """Port of a URL, explicit or by its scheme."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def peer_of(workload: Object) -> Peer:
    """Peer that represents the pods of a workload."""
    return Peer(pod_labels(workload), workload["metadata"].get("namespace"))


def service_endpoints(
    objects: Sequence[Object], service: str, port: str | int
) -> list[tuple[Object, int | None]]:
    """Workloads that a Service selects, each with the container port behind `port`.

    `port` is a name or a number of the Service. The container port is None if the workload lacks it.
    """
    names = [one["metadata"]["name"] for one in of_kind(objects, "Service")]
    if service not in names:
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
    """Number of a container port, by name or number; None if no container lists it."""
    ports = [one for _, container in containers(workload) for one in container.get("ports", [])]
    numbers: list[int] = [
        one["containerPort"] for one in ports if name in (one.get("name"), one["containerPort"])
    ]
    return numbers[0] if numbers else None


def can_connect(
    objects: Sequence[Object], source: Object, target: Object, port: int | None
) -> bool:
    """Return whether the policies at both ends admit a connection between two pods."""
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
    """Return whether a pod's egress policies admit a peer."""
    return _allows(objects, source, to, port, protocol, egress=True)


def allows_ingress(
    objects: Sequence[Object], target: Object, source: Peer, port: int | None, protocol: str = "TCP"
) -> bool:
    """Return whether a pod's ingress policies admit a peer."""
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
        and (
            not rule.get(peers) or any(_matches_peer(one, other, namespace) for one in rule[peers])
        )
        for policy in policies
        for rule in policy.get(rules, [])
    )


def matches_port(rule: Object, port: int | None, protocol: str = "TCP") -> bool:
    """Return whether a NetworkPolicy rule applies to a container port. Ports must be numbers."""
    return not rule.get("ports") or any(
        one.get("protocol", "TCP") == protocol
        and ("port" not in one or (port is not None and _in_range(one, port)))
        for one in rule["ports"]
    )


def _in_range(given: Object, port: int) -> bool:
    assert isinstance(given["port"], int), "named ports are not supported"
    return bool(given["port"] <= port <= given.get("endPort", given["port"]))


def _matches_peer(given: Object, other: Peer | None, namespace: str | None) -> bool:
    """Return whether an entry of `from` or `to` matches a peer."""
    if other is EXTERNAL or "ipBlock" in given:
        return other is EXTERNAL and "ipBlock" in given
    is_in_namespace = (
        selects(given["namespaceSelector"], {NAMESPACE_NAME: other.namespace or ""})
        if "namespaceSelector" in given
        else other.namespace == namespace
    )
    return is_in_namespace and selects(given.get("podSelector", {}), other.labels)
