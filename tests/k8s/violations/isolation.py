"""Violations of the rules of policy/isolation.py."""

from typing import Any

from tests.k8s.manifests import Object, find_object
from tests.k8s.violations.mutations import Mutation, Violation
from tests.k8s.violations.network import policy_field

EGRESS = "egress_is_limited_to_required_peers"
INGRESS = "ingress_is_limited_to_documented_sources"
POLICIES = ("secondpass", "vllm", "vllm-router")
COMPONENT = "app.kubernetes.io/component"
PART_OF = "app.kubernetes.io/part-of"
ORCHESTRATORS = {PART_OF: "secondpass", COMPONENT: "orchestrator"}


def _namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _matching(*expressions: Object, **labels: str) -> Object:
    return {"podSelector": {"matchLabels": labels, "matchExpressions": [*expressions]}}


def _is(operator: str, *values: str) -> Object:
    return {"key": COMPONENT, "operator": operator} | ({"values": [*values]} if values else {})


WIDE: dict[str, list[Any] | None] = {
    "no peer": None,
    "empty": [],
    "anything": [{}],
    "namespaces": [{"namespaceSelector": {}}],
    "all pods": [{"namespaceSelector": {}, "podSelector": {}}],
    "our pods anywhere": [{"namespaceSelector": {}, "podSelector": {"matchLabels": ORCHESTRATORS}}],
    "expression": [
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}
    ],
    "two labels": [{"namespaceSelector": {"matchLabels": {"team": "a", "stage": "b"}}}],
    "namespace": [_namespace("other")],
    "kube-system": [_namespace("kube-system")],
    "one of two": [{"podSelector": {"matchLabels": ORCHESTRATORS}}, _namespace("other")],
    "addresses": [{"ipBlock": {"cidr": "0.0.0.0/0"}}],
    "half": [{"ipBlock": {"cidr": "0.0.0.0/1"}}],
    "private": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
}
"""Peers that no policy may admit on port 8000."""

WIDE_HERE: dict[str, list[Any]] = {
    "pods": [{"podSelector": {}}],
    "part": [{"podSelector": {"matchLabels": {PART_OF: "secondpass"}}}],
    "component": [{"podSelector": {"matchLabels": {COMPONENT: "orchestrator"}}}],
    "others": [_matching(_is("NotIn", "other"))],
    "exists": [_matching(_is("Exists"))],
    "absent": [_matching(_is("DoesNotExist"))],
}
"""Peers that only the ingress policy of the orchestrators may admit on port 8000."""


def _added(policy: str, direction: str, peers: list[Any] | None, *ports: Object) -> Mutation:
    """Add a rule to a policy, for port 8000 by default."""
    key = {"ingress": "from", "egress": "to"}[direction]
    added: Object = {"ports": [*ports] or [{"port": 8000, "protocol": "TCP"}]}

    def apply(objects: list[Object]) -> None:
        rule = added | ({} if peers is None else {key: peers})
        find_object(objects, "NetworkPolicy", policy)["spec"][direction].append(rule)

    return apply


def _pods(*components: str) -> list[Any]:
    return [_matching(_is("In", *components), **{PART_OF: "secondpass"})]


VIOLATIONS: list[Violation] = [
    *(
        (rule, f"{policy} {name}", _added(policy, direction, peers))
        for rule, direction in ((EGRESS, "egress"), (INGRESS, "ingress"))
        for policy in POLICIES
        for name, peers in WIDE.items()
    ),
    *(
        (EGRESS, f"{one} {name}", _added(one, "egress", WIDE_HERE[name]))
        for one in POLICIES
        for name in WIDE_HERE
    ),
    *(
        (INGRESS, f"{one} {name}", _added(one, "ingress", WIDE_HERE[name]))
        for one in ("vllm", "vllm-router")
        for name in WIDE_HERE
    ),
    *((EGRESS, f"{one} all", policy_field("egress", [{}], one)) for one in POLICIES),
    *((INGRESS, f"{one} all", policy_field("ingress", [{}], one)) for one in POLICIES),
    # Connections that only other components need.
    (EGRESS, "orchestrator outside", _added("secondpass", "egress", None, {"port": 443})),
    (EGRESS, "engine API", _added("vllm", "egress", None, {"port": 6443})),
    (EGRESS, "engine router", _added("vllm", "egress", _pods("router"))),
    (EGRESS, "router router", _added("vllm-router", "egress", _pods("router"))),
    (EGRESS, "orchestrator itself", _added("secondpass", "egress", _pods("orchestrator"))),
    (EGRESS, "router back", _added("vllm-router", "egress", _pods("engine", "orchestrator"))),
    (INGRESS, "engine engine", _added("vllm", "ingress", _pods("engine"))),
    (INGRESS, "router engine", _added("vllm-router", "ingress", _pods("engine"))),
    (INGRESS, "router Prometheus", _added("vllm-router", "ingress", [_namespace("monitoring")])),
    (INGRESS, "engine Prometheus", _added("vllm", "ingress", [_namespace("monitoring")])),
    (INGRESS, "engine gateway", _added("vllm", "ingress", [_namespace("gateway-system")])),
    (INGRESS, "metrics", policy_field("ingress.1.from", [_namespace("other")], "vllm-router")),
    # Ports.
    (EGRESS, "no ports", policy_field("egress.0.ports", [], "vllm-router")),
    (EGRESS, "all TCP", policy_field("egress.0.ports", [{"protocol": "TCP"}], "vllm")),
    (EGRESS, "range", policy_field("egress.0.ports.0.endPort", 9000, "vllm")),
    (EGRESS, "UDP", policy_field("egress.0.ports.0.protocol", "UDP", "vllm")),
    (EGRESS, "DNS's namespace", policy_field("egress.1.to.0.podSelector", {}, "vllm")),
    (EGRESS, "DNS elsewhere", policy_field("egress.1.to.0.namespaceSelector", {}, "vllm")),
    (EGRESS, "DNS everywhere", policy_field("egress.1.to", None, "vllm")),
    (INGRESS, "no ports", policy_field("ingress.0.ports", None)),
    (INGRESS, "range", policy_field("ingress.0.ports", [{"port": 1, "endPort": 9000}], "vllm")),
    (INGRESS, "another port", policy_field("ingress.0.ports.0.port", 9000)),
    # NetworkPolicies are additive.
    (
        INGRESS,
        "gateway",
        policy_field("ingress.0.from", [{"namespaceSelector": {}}], "secondpass-gateway"),
    ),
    (INGRESS, "every pod's", policy_field("podSelector", {}, "secondpass-gateway")),
]
