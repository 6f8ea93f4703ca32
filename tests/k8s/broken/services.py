"""Broken copies for the rules of policy/services.py."""

from tests.k8s.broken.changes import Broken, container_of, edit_settings, set_field, without
from tests.k8s.manifests import Object


def _other_model(found: list[Object]) -> None:
    container_of(found, "vllm")["args"][0] = "another/model"


BROKEN: list[Broken] = [
    (
        "selectors_match",
        "all",
        set_field("spec.selector", {"app.kubernetes.io/name": "secondpass"}),
    ),
    ("selectors_match", "budget", without("PodDisruptionBudget", "vllm")),
    (
        "selectors_match",
        "nothing",
        set_field("spec.selector.matchLabels", {"app": "other"}, kind="PodDisruptionBudget"),
    ),
    ("selectors_match", "policy", without("NetworkPolicy", "vllm-router")),
    ("selectors_match", "egress", set_field("spec.policyTypes", ["Ingress"], kind="NetworkPolicy")),
    (
        "services_reach_their_pods",
        "port",
        set_field("spec.ports.0.targetPort", "web", kind="Service"),
    ),
    (
        "services_reach_their_pods",
        "pods",
        set_field("spec.selector", {"app": "other"}, kind="Service"),
    ),
    (
        "services_reach_their_pods",
        "policy",
        set_field("spec.ingress", [], name="vllm-router", kind="NetworkPolicy"),
    ),
    ("engines_are_reached", "service", without("Service", "vllm-router")),
    ("engines_are_reached", "port", edit_settings("vllm-router:8000", "vllm-router:9000")),
    ("engines_are_reached", "model", _other_model),
    (
        "calls_have_sessions_before_a_hashing_router",
        "votes",
        edit_settings('votes = "split"', 'votes = "none"'),
    ),
    (
        "calls_have_sessions_before_a_hashing_router",
        "forwards",
        edit_settings('forwards = "opening"', 'forwards = "none"'),
    ),
    ("routes_have_no_timeout", "none", set_field("spec.rules.0.timeouts", None, kind="HTTPRoute")),
    (
        "routes_have_no_timeout",
        "some",
        set_field("spec.rules.0.timeouts.request", "15s", kind="HTTPRoute"),
    ),
    ("routes_have_no_timeout", "service", without("Service", "secondpass")),
]
