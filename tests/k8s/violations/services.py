"""Violations of the rules of policy/services.py."""

from tests.k8s.manifests import Object
from tests.k8s.violations.mutations import (
    Mutation,
    Violation,
    duplicate_object,
    first_container,
    remove_object,
    replace_argument,
    replace_in_settings,
    set_field,
)


def _other_model(objects: list[Object]) -> None:
    first_container(objects, "vllm")["args"][0] = "another/model"


def _outside(url: str, added: str) -> Mutation:
    """Use an external engine, with `added` in place of its session headers."""

    def apply(objects: list[Object]) -> None:
        replace_in_settings("http://vllm-router:8000/v1", url)(objects)
        replace_in_settings('session_headers = ["X-Session-ID"]', added)(objects)

    return apply


VENDOR = "https://api.example.com/v1"
NO_SESSION = "session_headers = []\n"
KEY = 'key_env = "KEY"\n'
TENANT = 'tenant_headers = ["x-tenant"]\n'
EXTERNAL_ENGINES = "external_engines_use_https_and_keys_and_get_no_sessions"

VIOLATIONS: list[Violation] = [
    (EXTERNAL_ENGINES, "plain", _outside("http://api.example.com/v1", NO_SESSION + KEY)),
    (EXTERNAL_ENGINES, "key", _outside(VENDOR, NO_SESSION)),
    (EXTERNAL_ENGINES, "session", _outside(VENDOR, KEY)),
    (EXTERNAL_ENGINES, "tenant", _outside(VENDOR, NO_SESSION + KEY + TENANT)),
    (
        "selectors_match",
        "all",
        set_field("spec.selector", {"app.kubernetes.io/name": "secondpass"}),
    ),
    ("selectors_match", "budget", remove_object("PodDisruptionBudget", "vllm")),
    (
        "selectors_match",
        "nothing",
        set_field("spec.selector.matchLabels", {"app": "other"}, kind="PodDisruptionBudget"),
    ),
    ("selectors_match", "policy", remove_object("NetworkPolicy", "vllm-router")),
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
            "services_are_cluster_internal",
            f"{name} {kind}",
            set_field("spec.type", kind, name=name, kind="Service"),
        )
        for name in ("secondpass", "vllm", "vllm-router")
        for kind in ("NodePort", "LoadBalancer", "ExternalName")
    ),
    (
        "services_are_cluster_internal",
        "address",
        set_field("spec.externalIPs", ["192.0.2.1"], kind="Service"),
    ),
    (
        "services_are_cluster_internal",
        "port",
        set_field("spec.ports.0.nodePort", 30000, kind="Service"),
    ),
    (
        "services_are_cluster_internal",
        "ingress",
        duplicate_object("HTTPRoute", "secondpass", "Ingress"),
    ),
    ("engine_services_and_models_exist", "service", remove_object("Service", "vllm-router")),
    (
        "engine_services_and_models_exist",
        "port",
        replace_in_settings("vllm-router:8000", "vllm-router:9000"),
    ),
    ("engine_services_and_models_exist", "model", _other_model),
    (
        "hashing_routers_get_sessions_with_every_call",
        "votes",
        replace_in_settings('votes = "split"', 'votes = "none"'),
    ),
    (
        "hashing_routers_get_sessions_with_every_call",
        "forwards",
        replace_in_settings('forwards = "opening"', 'forwards = "none"'),
    ),
    (
        "llm_d_and_sessions_spread_votes_equally",
        "fewer",
        replace_in_settings("session_max_n = 8", "session_max_n = 4"),
    ),
    ("routes_disable_timeouts", "none", set_field("spec.rules.0.timeouts", None, kind="HTTPRoute")),
    (
        "routes_disable_timeouts",
        "some",
        set_field("spec.rules.0.timeouts.request", "15s", kind="HTTPRoute"),
    ),
    ("routes_disable_timeouts", "service", remove_object("Service", "secondpass")),
    (
        "routers_hash_sessions_and_do_not_retry",
        "retries",
        replace_argument("vllm-router", "--disable-retries", None),
    ),
    (
        "routers_hash_sessions_and_do_not_retry",
        "policy",
        replace_argument("vllm-router", "--policy=consistent_hash", "--policy=round_robin"),
    ),
    (
        "routers_hash_sessions_and_do_not_retry",
        "default",
        replace_argument("vllm-router", "--policy=consistent_hash", None),
    ),
    (
        "routes_expose_only_the_api",
        "solve",
        set_field("spec.rules.0.matches.0", None, kind="HTTPRoute"),
    ),
    (
        "routes_expose_only_the_api",
        "v1",
        set_field("spec.rules.0.matches.2.path.value", "/v2", kind="HTTPRoute"),
    ),
    (
        "routes_expose_only_the_api",
        "models",
        set_field("spec.rules.0.matches.2.path.value", "/v1/chat", kind="HTTPRoute"),
    ),
    (
        "routes_expose_only_the_api",
        "strategies",
        set_field("spec.rules.0.matches.1.path.value", "/strategy", kind="HTTPRoute"),
    ),
    (
        "routes_expose_only_the_api",
        "description",
        set_field("spec.rules.0.matches.3", None, kind="HTTPRoute"),
    ),
    (
        "routes_expose_only_the_api",
        "metrics",
        set_field("spec.rules.0.matches.3.path.value", "/metrics", kind="HTTPRoute"),
    ),
    (
        "routes_expose_only_the_api",
        "everything",
        set_field("spec.rules.0.matches", None, kind="HTTPRoute"),
    ),
    (
        "routes_expose_only_the_api",
        "root",
        set_field("spec.rules.0.matches.0.path.value", "/", kind="HTTPRoute"),
    ),
    (
        "service_monitors_select_the_service",
        "another",
        set_field(
            "spec.selector.matchLabels",
            {"app.kubernetes.io/component": "engine"},
            kind="ServiceMonitor",
        ),
    ),
    (
        "service_monitors_select_the_service",
        "all",
        set_field(
            "spec.selector.matchLabels",
            {"app.kubernetes.io/name": "secondpass"},
            kind="ServiceMonitor",
        ),
    ),
    (
        "service_monitors_select_the_service",
        "port",
        set_field("spec.endpoints.0.port", "metrics", kind="ServiceMonitor"),
    ),
    (
        "service_monitors_select_the_service",
        "path",
        set_field("spec.endpoints.0.path", "/", kind="ServiceMonitor"),
    ),
    (
        "service_monitors_select_the_service",
        "job",
        set_field("spec.jobLabel", None, kind="ServiceMonitor"),
    ),
    (
        "service_monitors_select_the_service",
        "label",
        set_field("metadata.labels", {}, kind="Service"),
    ),
]
