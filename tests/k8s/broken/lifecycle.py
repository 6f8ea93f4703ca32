"""Broken copies for the rules of policy/lifecycle.py."""

from tests.k8s.broken.changes import (
    Broken,
    container_of,
    edit_argument,
    edit_settings,
    set_field,
    set_variable,
    twice,
    without,
)
from tests.k8s.manifests import Object
from tests.k8s.policy.lifecycle import PROBES


def _no_drain(found: list[Object]) -> None:
    arguments = container_of(found, "vllm")["args"]
    arguments.remove("--shutdown-timeout=$(SHUTDOWN_TIMEOUT)")


PATHS = "probes_ask_the_paths_of_their_server"
ROLLOUTS = "rollouts_lose_no_pod_before_another_is_ready"
ROUTER = "vllm-router"
OTHER_PATHS = {
    "secondpass": ("/health", "/livez", "/readyz"),
    "vllm": ("/ping", "/v1/models", "/metrics"),
    ROUTER: ("/readiness", "/liveness", "/readiness"),
}
"""For each workload, a wrong path of each probe."""

BROKEN: list[Broken] = [
    ("probes_are_complete", "startup", set_field("box.startupProbe", None)),
    ("probes_are_complete", "liveness", set_field("box.livenessProbe", None)),
    ("probes_are_complete", "readiness", set_field("box.readinessProbe", None)),
    ("probes_are_complete", "slow", set_field("box.readinessProbe.periodSeconds", 10)),
    ("probes_are_complete", "fast", set_field("box.readinessProbe.periodSeconds", 1)),
    ("probes_are_complete", "port", set_field("box.livenessProbe.httpGet.port", "other")),
    ("probes_are_complete", "timeout", set_field("box.livenessProbe.timeoutSeconds", 60)),
    ("shutdown_follows_one_number", "short", set_field("pod.terminationGracePeriodSeconds", 622)),
    ("shutdown_follows_one_number", "none", set_field("pod.terminationGracePeriodSeconds", None)),
    ("shutdown_follows_one_number", "differs", set_field("pod.terminationGracePeriodSeconds", 700)),
    ("shutdown_follows_one_number", "longer", edit_settings("ms = 600000", "ms = 640000")),
    (
        "shutdown_follows_one_number",
        "copy",
        set_variable("SECONDPASS_SHUTDOWN_GRACE_SECONDS", "20"),
    ),
    ("shutdown_follows_one_number", "vllm's copy", set_variable("SHUTDOWN_TIMEOUT", "20", "vllm")),
    ("shutdown_follows_one_number", "vllm", _no_drain),
    ("shutdown_follows_one_number", "preStop", set_field("box.lifecycle", {})),
    (
        "routers_outlast_the_longest_solve",
        "short",
        edit_argument("vllm-router", "--request-timeout-secs=3600", "--request-timeout-secs=600"),
    ),
    (
        "routers_outlast_the_longest_solve",
        "default",
        edit_argument("vllm-router", "--request-timeout-secs=3600", None),
    ),
    (
        "routers_outlast_the_longest_solve",
        "longer",
        edit_settings("ms = 600000", "ms = 3600000"),
    ),
    ("sizes_have_one_owner", "both", set_field("spec.replicas", 2)),
    (
        "sizes_have_one_owner",
        "two",
        twice("ScaledObject", "secondpass", "HorizontalPodAutoscaler"),
    ),
    ("sizes_have_one_owner", "none", without("ScaledObject", "secondpass")),
    (
        "sizes_have_one_owner",
        "target",
        set_field("spec.scaleTargetRef.name", "other", kind="ScaledObject"),
    ),
    ("replicas_says_how_many_pods_run", "one", edit_settings('"many"', '"one"')),
    (
        "models_have_time_to_load",
        "few",
        set_field("box.startupProbe.failureThreshold", 59, name="vllm"),
    ),
    (
        "models_have_time_to_load",
        "default",
        set_field("box.startupProbe.failureThreshold", None, name="vllm"),
    ),
    ("models_have_time_to_load", "none", set_field("box.startupProbe", None, name="vllm")),
    *(
        (PATHS, f"{name} {kind}", set_field(f"box.{kind}.httpGet.path", path, name=name))
        for name, other in OTHER_PATHS.items()
        for kind, path in zip(PROBES, other, strict=True)
    ),
    *(
        (PATHS, f"metrics {kind}", set_field(f"box.{kind}.httpGet.port", "metrics", name=ROUTER))
        for kind in PROBES
    ),
    (PATHS, "command", set_field("box.livenessProbe", {"exec": {"command": ["true"]}})),
    (PATHS, "server", set_field("box.command", ["sh"], name="vllm")),
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
        twice("ScaledObject", "secondpass", "HorizontalPodAutoscaler"),
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
