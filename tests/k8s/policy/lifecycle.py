"""Rules for startup, readiness, shutdown, rollouts and replica counts."""

from collections.abc import Iterator, Sequence
from itertools import chain

from tests.k8s.manifests import (
    Object,
    containers,
    env_values,
    max_pods,
    of_kind,
    pod_spec,
    settings_values,
)
from tests.k8s.policy.registry import (
    all_containers,
    long_running_containers,
    rule,
    runs_vllm,
    workloads,
)

PRE_STOP_SECONDS = 15
CLOSING_SECONDS = 7
LOADING_SECONDS = 600
FEWEST_PODS = 2
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
PATHS = {
    "secondpass": ("/livez", "/readyz", "/livez"),
    "vllm": ("/health", "/health", "/health"),
    "vllm-router": ("/liveness", "/readiness", "/liveness"),
}
"""Probe paths of each server, in the order of PROBES."""
LONGEST_SOLVE_MS = 600_000  # default of max_deadline_ms


@rule
def probes_are_complete(objects: Sequence[Object]) -> Iterator[str]:
    """Startup, readiness and liveness probes use an existing port; readiness runs every 2 to 5 s."""
    for name, container in chain.from_iterable(map(long_running_containers, workloads(objects))):
        given = container.get("ports", [])
        ports = {one[key] for one in given for key in ("name", "containerPort") if key in one}
        for kind in PROBES:
            probe = container.get(kind)
            if probe is None:
                yield f"{name}: no {kind}"
            elif probe.get("httpGet", {}).get("port") not in ports:
                yield f"{name}: {kind} uses a missing port"
            elif probe.get("timeoutSeconds", 1) > probe.get("periodSeconds", 10):
                yield f"{name}: {kind} has a timeout above its period"
        if not 2 <= container.get("readinessProbe", {}).get("periodSeconds", 10) <= 5:
            yield f"{name}: readinessProbe has a period outside 2 to 5 s"


@rule
def grace_periods_are_consistent(objects: Sequence[Object]) -> Iterator[str]:
    """The grace period exceeds preStop + longest solve + closing, and all copies of it agree."""
    needed = PRE_STOP_SECONDS + _longest_solve_seconds(objects) + CLOSING_SECONDS
    numbers = set()
    for workload in workloads(objects):
        name = workload["metadata"]["name"]
        grace = pod_spec(workload).get("terminationGracePeriodSeconds", 30)
        numbers.add(grace)
        if grace <= needed:
            yield f"{name}: a grace period of {grace} s is not above {needed:g} s"
        for where, container in long_running_containers(workload):
            yield from _drains(where, container, grace)
    if len(numbers) > 1:
        yield f"grace periods differ: {sorted(numbers)}"


def _longest_solve_seconds(objects: Sequence[Object]) -> float:
    longest: int = settings_values(objects).get("max_deadline_ms", LONGEST_SOLVE_MS)
    return longest / 1000


@rule
def router_timeouts_exceed_the_longest_solve(objects: Sequence[Object]) -> Iterator[str]:
    """A router aborts a request at its own timeout, regardless of the solve's deadline."""
    for name, container in all_containers(objects):
        if container.get("command", [])[:1] == ["vllm-router"]:
            option = "--request-timeout-secs="
            given = [one for one in container["args"] if one.startswith(option)]
            seconds = [float(one.removeprefix(option)) for one in given]
            if len(seconds) != 1 or seconds[0] <= _longest_solve_seconds(objects):
                yield f"{name}: {given} is not above {_longest_solve_seconds(objects):g} s"


def _drains(name: str, container: Object, grace: int) -> Iterator[str]:
    if container.get("lifecycle", {}).get("preStop") != {"sleep": {"seconds": PRE_STOP_SECONDS}}:
        yield f"{name}: preStop does not sleep for {PRE_STOP_SECONDS} s"
    expected = {}
    if container.get("command", [])[:1] == ["vllm"]:
        expected = {"SHUTDOWN_TIMEOUT": str(grace)}
        if "--shutdown-timeout=$(SHUTDOWN_TIMEOUT)" not in container.get("args", []):
            yield f"{name}: vLLM has no shutdown timeout"
    elif container["name"] == "secondpass":
        expected = {"SECONDPASS_SHUTDOWN_GRACE_SECONDS": str(grace)}
    for key, value in expected.items():
        if env_values(container).get(key) != value:
            yield f"{name}: {key} is not {value}"


@rule
def replicas_have_one_owner(objects: Sequence[Object]) -> Iterator[str]:
    """A workload has either `replicas` or one autoscaler."""
    scaled = [
        (one["spec"]["scaleTargetRef"]["kind"], one["spec"]["scaleTargetRef"]["name"])
        for one in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    ]
    targets = [(one["kind"], one["metadata"]["name"]) for one in workloads(objects)]
    for target in sorted(set(scaled) - set(targets)):
        yield f"an autoscaler targets the missing {target[1]}"
    for workload, target in zip(workloads(objects), targets, strict=True):
        owners = scaled.count(target) + ("replicas" in workload["spec"])
        if owners != 1:
            yield f"{target[1]}: its replica count has {owners} owners"


@rule
def replicas_setting_matches_the_pod_count(objects: Sequence[Object]) -> Iterator[str]:
    """The setting `replicas` is "many" if and only if more than one orchestrator can run."""
    expected = "many" if max_pods(objects) > 1 else "one"
    if (value := settings_values(objects).get("replicas", "one")) != expected:
        yield f"replicas is {value!r}, not {expected!r}"


@rule
def startup_probes_allow_models_to_load(objects: Sequence[Object]) -> Iterator[str]:
    """A container that loads a model has at least 10 minutes to start."""
    for name, container in all_containers(objects):
        probe = container.get("startupProbe", {})
        seconds = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        if runs_vllm(container, objects) and seconds < LOADING_SECONDS:
            yield f"{name}: is restarted if it does not start within {seconds} s"


@rule
def probes_use_the_endpoints_of_their_server(objects: Sequence[Object]) -> Iterator[str]:
    """Probes use the health endpoints of their server.

    Readiness fails while a server drains. Liveness and startup fail only if the server itself is broken.
    """
    for workload in workloads(objects):
        known = [
            (where, container, PATHS[server])
            for where, container in long_running_containers(workload)
            if (server := _server(container)) in PATHS
        ]
        if not known:
            yield f"{workload['metadata']['name']}: runs no server with known probe paths"
        for where, container, paths in known:
            for kind, path in zip(PROBES, paths, strict=True):
                target = container.get(kind, {}).get("httpGet", {})
                if (target.get("path"), target.get("port")) != (path, "http"):
                    yield f"{where}: {kind} does not use {path} on the port http"


def _server(container: Object) -> str:
    """Server that a container runs.

    The container `secondpass` counts as secondpass even if it runs vLLM: the plug-in serves the same paths.
    """
    name: str = container["name"]
    command: list[str] = container.get("command", [])
    return name if name == "secondpass" or not command else command[0]


@rule
def autoscalers_keep_two_pods(objects: Sequence[Object]) -> Iterator[str]:
    """At least two pods run, even when idle or without Prometheus, so that one can drain or fail."""
    for one in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        name, spec = f"{one['kind']} {one['metadata']['name']}", one["spec"]
        least, most = {
            "HorizontalPodAutoscaler": (spec.get("minReplicas", 1), spec.get("maxReplicas", 0)),
            "ScaledObject": (spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)),
        }[one["kind"]]
        if not FEWEST_PODS <= least <= most:
            yield f"{name}: scales from {least} to {most} pods"
        if "idleReplicaCount" in spec:
            yield f"{name}: fewer pods when idle"
        if spec.get("fallback", {}).get("replicas", FEWEST_PODS) < FEWEST_PODS:
            yield f"{name}: too few pods without Prometheus"


@rule
def rollouts_replace_pods_gradually(objects: Sequence[Object]) -> Iterator[str]:
    """Rollouts surge by one pod and lose no capacity.

    Pods with GPUs are replaced one at a time instead, because a surge would wait for a free GPU.
    """
    for workload in workloads(objects):
        name = workload["metadata"]["name"]
        if max_pods(objects, name) < FEWEST_PODS:
            continue
        strategy = workload["spec"].get("strategy", {})
        rolling = strategy.get("rollingUpdate") or {}
        given = rolling.get("maxSurge", "25%"), rolling.get("maxUnavailable", "25%")
        has_gpu = any(
            "nvidia.com/gpu" in container.get("resources", {}).get("requests", {})
            for _, container in containers(workload)
        )
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            yield f"{name}: the strategy replaces all pods at once"
        if given != ((0, 1) if has_gpu else (1, 0)):
            yield f"{name}: maxSurge {given[0]}, maxUnavailable {given[1]}"
