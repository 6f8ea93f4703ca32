"""Violations of the rules of policy/lifecycle.py."""

from tests.k8s.manifests import Object
from tests.k8s.policy.lifecycle import PROBES
from tests.k8s.violations.mutations import (
    Violation,
    duplicate_object,
    first_container,
    remove_object,
    replace_argument,
    replace_in_settings,
    set_env,
    set_field,
)


def _no_drain(objects: list[Object]) -> None:
    arguments = first_container(objects, "vllm")["args"]
    arguments.remove("--shutdown-timeout=$(SHUTDOWN_TIMEOUT)")


PATHS = "probes_use_the_endpoints_of_their_server"
ROLLOUTS = "rollouts_replace_pods_gradually"
ROUTER = "vllm-router"
OTHER_PATHS = {
    "secondpass": ("/health", "/livez", "/readyz"),
    "vllm": ("/ping", "/v1/models", "/metrics"),
    ROUTER: ("/readiness", "/liveness", "/readiness"),
}
"""Wrong path of each probe, by workload."""

VIOLATIONS: list[Violation] = [
    ("probes_are_complete", "startup", set_field("container.startupProbe", None)),
    ("probes_are_complete", "liveness", set_field("container.livenessProbe", None)),
    ("probes_are_complete", "readiness", set_field("container.readinessProbe", None)),
    ("probes_are_complete", "slow", set_field("container.readinessProbe.periodSeconds", 10)),
    ("probes_are_complete", "fast", set_field("container.readinessProbe.periodSeconds", 1)),
    ("probes_are_complete", "port", set_field("container.livenessProbe.httpGet.port", "other")),
    ("probes_are_complete", "timeout", set_field("container.livenessProbe.timeoutSeconds", 60)),
    ("grace_periods_are_consistent", "short", set_field("pod.terminationGracePeriodSeconds", 622)),
    ("grace_periods_are_consistent", "none", set_field("pod.terminationGracePeriodSeconds", None)),
    (
        "grace_periods_are_consistent",
        "differs",
        set_field("pod.terminationGracePeriodSeconds", 700),
    ),
    ("grace_periods_are_consistent", "longer", replace_in_settings("ms = 600000", "ms = 640000")),
    (
        "grace_periods_are_consistent",
        "copy",
        set_env("SECONDPASS_SHUTDOWN_GRACE_SECONDS", "20"),
    ),
    ("grace_periods_are_consistent", "vllm's copy", set_env("SHUTDOWN_TIMEOUT", "20", "vllm")),
    ("grace_periods_are_consistent", "vllm", _no_drain),
    ("grace_periods_are_consistent", "preStop", set_field("container.lifecycle", {})),
    (
        "router_timeouts_exceed_the_longest_solve",
        "short",
        replace_argument(
            "vllm-router", "--request-timeout-secs=3600", "--request-timeout-secs=600"
        ),
    ),
    (
        "router_timeouts_exceed_the_longest_solve",
        "default",
        replace_argument("vllm-router", "--request-timeout-secs=3600", None),
    ),
    (
        "router_timeouts_exceed_the_longest_solve",
        "longer",
        replace_in_settings("ms = 600000", "ms = 3600000"),
    ),
    ("replicas_have_one_owner", "both", set_field("spec.replicas", 2)),
    (
        "replicas_have_one_owner",
        "two",
        duplicate_object("ScaledObject", "secondpass", "HorizontalPodAutoscaler"),
    ),
    ("replicas_have_one_owner", "none", remove_object("ScaledObject", "secondpass")),
    (
        "replicas_have_one_owner",
        "target",
        set_field("spec.scaleTargetRef.name", "other", kind="ScaledObject"),
    ),
    ("replicas_setting_matches_the_pod_count", "one", replace_in_settings('"many"', '"one"')),
    (
        "startup_probes_allow_models_to_load",
        "few",
        set_field("container.startupProbe.failureThreshold", 59, name="vllm"),
    ),
    (
        "startup_probes_allow_models_to_load",
        "default",
        set_field("container.startupProbe.failureThreshold", None, name="vllm"),
    ),
    (
        "startup_probes_allow_models_to_load",
        "none",
        set_field("container.startupProbe", None, name="vllm"),
    ),
    *(
        (PATHS, f"{name} {kind}", set_field(f"container.{kind}.httpGet.path", path, name=name))
        for name, other in OTHER_PATHS.items()
        for kind, path in zip(PROBES, other, strict=True)
    ),
    *(
        (
            PATHS,
            f"metrics {kind}",
            set_field(f"container.{kind}.httpGet.port", "metrics", name=ROUTER),
        )
        for kind in PROBES
    ),
    (PATHS, "command", set_field("container.livenessProbe", {"exec": {"command": ["true"]}})),
    (PATHS, "server", set_field("container.command", ["sh"], name="vllm")),
    *(
        ("autoscalers_keep_two_pods", name, set_field(f"spec.{path}", value, kind="ScaledObject"))
        for name, path, value in (
            ("one", "minReplicaCount", 1),
            ("default", "minReplicaCount", None),
            ("idle", "idleReplicaCount", 0),
            ("most", "maxReplicaCount", 1),
            ("fallback", "fallback.replicas", 1),
        )
    ),
    (
        "autoscalers_keep_two_pods",
        "CPU",
        duplicate_object("ScaledObject", "secondpass", "HorizontalPodAutoscaler"),
    ),
    *(
        (ROLLOUTS, f"{name} {field}", set_field(f"spec.strategy.{field}", value, name=name))
        for name in ("secondpass", ROUTER)
        for field, value in (
            ("rollingUpdate.maxUnavailable", 1),
            ("rollingUpdate.maxSurge", 0),
            ("rollingUpdate", None),
            ("type", "Recreate"),
        )
    ),
    (ROLLOUTS, "default", set_field("spec.strategy", None)),
    (ROLLOUTS, "percent", set_field("spec.strategy.rollingUpdate.maxUnavailable", "25%")),
    (ROLLOUTS, "GPU", set_field("spec.strategy.rollingUpdate.maxSurge", 1, name="vllm")),
    (ROLLOUTS, "GPUs", set_field("spec.strategy.rollingUpdate.maxUnavailable", 2, name="vllm")),
]
