"""Violations of the rules of policy/network.py."""

from typing import Any

from tests.k8s.manifests import Object, find_object
from tests.k8s.violations.mutations import (
    Mutation,
    Violation,
    remove_object,
    replace_argument,
    replace_in_settings,
    set_field,
)


def policy_field(path: str, value: Any, name: str = "secondpass") -> Mutation:
    return set_field(f"spec.{path}", value, name=name, kind="NetworkPolicy")


def without_rule(direction: str, number: int, name: str = "secondpass") -> Mutation:
    return lambda objects: find_object(objects, "NetworkPolicy", name)["spec"][direction].pop(
        number
    )


def _component(policy: str, direction: str, values: list[str]) -> Mutation:
    """Change the components that the first rule of a policy selects."""

    def apply(objects: list[Object]) -> None:
        (rule, *_) = find_object(objects, "NetworkPolicy", policy)["spec"][direction]
        ((source, *_),) = [rule[key] for key in ("from", "to") if key in rule]
        source["podSelector"]["matchExpressions"][0]["values"] = values

    return apply


TO_ENGINES = "orchestrators_reach_their_engines"
ROUTERS = "routers_reach_engines_and_the_kubernetes_api"
ENGINES = "engines_admit_routers_and_orchestrators"
CLIENTS = "clients_in_the_namespace_reach_orchestrators"
DNS = "every_pod_reaches_dns"
SCRAPED = "prometheus_reaches_its_targets"
GATEWAY = "gateways_reach_their_backends"

VIOLATIONS: list[Violation] = [
    (TO_ENGINES, "egress", without_rule("egress", 0)),
    (TO_ENGINES, "port", policy_field("egress.0.ports.0.port", 9000)),
    (TO_ENGINES, "peer", _component("secondpass", "egress", ["engine"])),
    (TO_ENGINES, "ingress", without_rule("ingress", 0, "vllm-router")),
    (TO_ENGINES, "service", replace_in_settings("//vllm-router:", "//other:")),
    (
        TO_ENGINES,
        "outside",
        replace_in_settings("http://vllm-router:8000/v1", "https://api.example.com/v1"),
    ),
    (ROUTERS, "egress", without_rule("egress", 0, "vllm-router")),
    (ROUTERS, "ingress", _component("vllm", "ingress", ["orchestrator"])),
    (ROUTERS, "API", without_rule("egress", 1, "vllm-router")),
    (ROUTERS, "API's port", policy_field("egress.1.ports.1.port", 8443, "vllm-router")),
    (
        ROUTERS,
        "port",
        replace_argument(
            "vllm-router", "--service-discovery-port=8000", "--service-discovery-port=80"
        ),
    ),
    (ROUTERS, "no port", replace_argument("vllm-router", "--service-discovery-port=8000", None)),
    (
        ROUTERS,
        "all pods",
        replace_argument("vllm-router", "app.kubernetes.io/component=engine", None),
    ),
    (ROUTERS, "no pods", replace_argument("vllm-router", "--selector", None)),
    (ENGINES, "router", _component("vllm", "ingress", ["orchestrator"])),
    (ENGINES, "orchestrator", _component("vllm", "ingress", ["router"])),
    (ENGINES, "closed", policy_field("ingress", [], "vllm")),
    (ENGINES, "namespace", set_field("metadata.namespace", "other", name="vllm")),
    (CLIENTS, "rule", without_rule("ingress", 0)),
    (
        CLIENTS,
        "label",
        policy_field("ingress.0.from", [{"podSelector": {"matchLabels": {"a": "b"}}}]),
    ),
    (CLIENTS, "port", policy_field("ingress.0.ports.0.port", 9000)),
    (DNS, "egress", without_rule("egress", 1)),
    (DNS, "engine", without_rule("egress", 1, "vllm")),
    (DNS, "TCP", policy_field("egress.2.ports.1.protocol", "UDP", "vllm-router")),
    (DNS, "label", policy_field("egress.1.to.0.podSelector.matchLabels", {"k8s-app": "other"})),
    ("engines_reach_the_model_hub", "egress", without_rule("egress", 0, "vllm")),
    ("engines_reach_the_model_hub", "port", policy_field("egress.0.ports.0.port", 80, "vllm")),
    (SCRAPED, "rule", without_rule("ingress", 1)),
    (SCRAPED, "port", policy_field("ingress.1.ports.0.port", 9000)),
    (
        SCRAPED,
        "namespace",
        set_field(
            "spec.triggers.0.metadata.serverAddress",
            "http://prometheus.other.svc:9090",
            kind="ScaledObject",
        ),
    ),
    (GATEWAY, "policy", remove_object("NetworkPolicy", "secondpass-gateway")),
    (GATEWAY, "port", policy_field("ingress.0.ports.0.port", 9000, "secondpass-gateway")),
    (
        GATEWAY,
        "namespace",
        set_field("spec.parentRefs.0.namespace", "other", kind="HTTPRoute"),
    ),
    (GATEWAY, "backend", set_field("spec.rules.0.backendRefs.0.port", 9000, kind="HTTPRoute")),
]
