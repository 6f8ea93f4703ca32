"""Broken copies for the rules of policy/services.py."""

from tests.k8s.broken.changes import (
    Break,
    Broken,
    container_of,
    edit_argument,
    edit_settings,
    set_field,
    twice,
    without,
)
from tests.k8s.manifests import Object


def _other_model(found: list[Object]) -> None:
    container_of(found, "vllm")["args"][0] = "another/model"


def _outside(url: str, added: str) -> Break:
    """Ask an engine outside the cluster, with other lines in place of its session headers."""

    def apply(found: list[Object]) -> None:
        edit_settings("http://vllm-router:8000/v1", url)(found)
        edit_settings('session_headers = ["X-Session-ID"]', added)(found)

    return apply


VENDOR = "https://api.example.com/v1"
NO_SESSION = "session_headers = []\n"
KEY = 'key_env = "KEY"\n'
TENANT = 'tenant_headers = ["x-tenant"]\n'
OUTSIDE = "engines_outside_are_asked_with_a_key_and_learn_no_session"

BROKEN: list[Broken] = [
    (OUTSIDE, "plain", _outside("http://api.example.com/v1", NO_SESSION + KEY)),
    (OUTSIDE, "key", _outside(VENDOR, NO_SESSION)),
    (OUTSIDE, "session", _outside(VENDOR, KEY)),
    (OUTSIDE, "tenant", _outside(VENDOR, NO_SESSION + KEY + TENANT)),
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
    *(
        (
            "services_are_inside_the_cluster",
            f"{name} {kind}",
            set_field("spec.type", kind, name=name, kind="Service"),
        )
        for name in ("secondpass", "vllm", "vllm-router")
        for kind in ("NodePort", "LoadBalancer", "ExternalName")
    ),
    (
        "services_are_inside_the_cluster",
        "address",
        set_field("spec.externalIPs", ["192.0.2.1"], kind="Service"),
    ),
    (
        "services_are_inside_the_cluster",
        "port",
        set_field("spec.ports.0.nodePort", 30000, kind="Service"),
    ),
    ("services_are_inside_the_cluster", "ingress", twice("HTTPRoute", "secondpass", "Ingress")),
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
    (
        "llm_d_spreads_votes_as_sessions_do",
        "fewer",
        edit_settings("session_max_n = 8", "session_max_n = 4"),
    ),
    ("routes_have_no_timeout", "none", set_field("spec.rules.0.timeouts", None, kind="HTTPRoute")),
    (
        "routes_have_no_timeout",
        "some",
        set_field("spec.rules.0.timeouts.request", "15s", kind="HTTPRoute"),
    ),
    ("routes_have_no_timeout", "service", without("Service", "secondpass")),
    (
        "routers_hash_sessions_and_do_not_retry",
        "retries",
        edit_argument("vllm-router", "--disable-retries", None),
    ),
    (
        "routers_hash_sessions_and_do_not_retry",
        "policy",
        edit_argument("vllm-router", "--policy=consistent_hash", "--policy=round_robin"),
    ),
    (
        "routers_hash_sessions_and_do_not_retry",
        "default",
        edit_argument("vllm-router", "--policy=consistent_hash", None),
    ),
    (
        "routes_serve_the_api_alone",
        "solve",
        set_field("spec.rules.0.matches.0", None, kind="HTTPRoute"),
    ),
    (
        "routes_serve_the_api_alone",
        "v1",
        set_field("spec.rules.0.matches.2.path.value", "/v2", kind="HTTPRoute"),
    ),
    (
        "routes_serve_the_api_alone",
        "models",
        set_field("spec.rules.0.matches.2.path.value", "/v1/chat", kind="HTTPRoute"),
    ),
    (
        "routes_serve_the_api_alone",
        "strategies",
        set_field("spec.rules.0.matches.1.path.value", "/strategy", kind="HTTPRoute"),
    ),
    (
        "routes_serve_the_api_alone",
        "description",
        set_field("spec.rules.0.matches.3", None, kind="HTTPRoute"),
    ),
    (
        "routes_serve_the_api_alone",
        "metrics",
        set_field("spec.rules.0.matches.3.path.value", "/metrics", kind="HTTPRoute"),
    ),
    (
        "routes_serve_the_api_alone",
        "everything",
        set_field("spec.rules.0.matches", None, kind="HTTPRoute"),
    ),
    (
        "routes_serve_the_api_alone",
        "root",
        set_field("spec.rules.0.matches.0.path.value", "/", kind="HTTPRoute"),
    ),
    (
        "monitors_find_the_service",
        "another",
        set_field(
            "spec.selector.matchLabels",
            {"app.kubernetes.io/component": "engine"},
            kind="ServiceMonitor",
        ),
    ),
    (
        "monitors_find_the_service",
        "all",
        set_field(
            "spec.selector.matchLabels",
            {"app.kubernetes.io/name": "secondpass"},
            kind="ServiceMonitor",
        ),
    ),
    (
        "monitors_find_the_service",
        "port",
        set_field("spec.endpoints.0.port", "metrics", kind="ServiceMonitor"),
    ),
    (
        "monitors_find_the_service",
        "path",
        set_field("spec.endpoints.0.path", "/", kind="ServiceMonitor"),
    ),
    ("monitors_find_the_service", "job", set_field("spec.jobLabel", None, kind="ServiceMonitor")),
    ("monitors_find_the_service", "label", set_field("metadata.labels", {}, kind="Service")),
]
