"""Rules for how pods start, become ready, end, and how many there are."""

from collections.abc import Iterator, Sequence

from tests.k8s.manifests import (
    Object,
    containers,
    most_pods,
    of_kind,
    pod_of,
    settings_values,
    variables,
)
from tests.k8s.policy.registry import all_containers, rule, runs_vllm, workloads

PRE_STOP_SECONDS = 15
CLOSING_SECONDS = 7
LOADING_SECONDS = 600
PROBED = {"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
LONGEST_SOLVE_MS = 600_000  # the default of max_deadline_ms


@rule
def probes_are_complete(found: Sequence[Object]) -> Iterator[str]:
    """Startup, readiness and liveness, on a port that exists; readiness every 2 to 5 s."""
    for name, container in all_containers(found):
        ports = {one["name"] for one in container.get("ports", [])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind)
            if probe is None:
                yield f"{name}: no {kind}"
            elif probe["httpGet"]["port"] not in ports:
                yield f"{name}: {kind} asks a port that is not there"
            elif probe["timeoutSeconds"] > probe["periodSeconds"]:
                yield f"{name}: {kind} waits longer than its period"
        if not 2 <= container.get("readinessProbe", {}).get("periodSeconds", 0) <= 5:
            yield f"{name}: the period of readiness is not 2 to 5 s"


@rule
def shutdown_follows_one_number(found: Sequence[Object]) -> Iterator[str]:
    """The grace period exceeds preStop, the longest solve and closing; every copy of it is the same."""
    needed = PRE_STOP_SECONDS + _longest_solve_seconds(found) + CLOSING_SECONDS
    numbers = set()
    for workload in workloads(found):
        name = workload["metadata"]["name"]
        grace = pod_of(workload).get("terminationGracePeriodSeconds", 30)
        numbers.add(grace)
        if grace <= needed:
            yield f"{name}: a grace period of {grace} s is not above {needed:g} s"
        for where, container in containers(workload):
            yield from _drains(where, container, grace)
    if len(numbers) > 1:
        yield f"grace periods differ: {sorted(numbers)}"


def _longest_solve_seconds(found: Sequence[Object]) -> float:
    longest: int = settings_values(found).get("max_deadline_ms", LONGEST_SOLVE_MS)
    return longest / 1000


@rule
def routers_outlast_the_longest_solve(found: Sequence[Object]) -> Iterator[str]:
    """A router cuts a request after its timeout, whatever the deadline of the solve is."""
    for name, container in all_containers(found):
        if container.get("command", [])[:1] == ["vllm-router"]:
            option = "--request-timeout-secs="
            given = [one for one in container["args"] if one.startswith(option)]
            seconds = [float(one.removeprefix(option)) for one in given]
            if len(seconds) != 1 or seconds[0] <= _longest_solve_seconds(found):
                yield f"{name}: {given} is not above {_longest_solve_seconds(found):g} s"


def _drains(name: str, container: Object, grace: int) -> Iterator[str]:
    if container.get("lifecycle", {}).get("preStop") != {"sleep": {"seconds": PRE_STOP_SECONDS}}:
        yield f"{name}: preStop does not sleep for {PRE_STOP_SECONDS} s"
    expected = {}
    if container.get("command", [])[:1] == ["vllm"]:
        expected = {"SHUTDOWN_TIMEOUT": str(grace)}
        if "--shutdown-timeout=$(SHUTDOWN_TIMEOUT)" not in container["args"]:
            yield f"{name}: vLLM does not drain"
    elif container["name"] == "secondpass":
        expected = {"SECONDPASS_SHUTDOWN_GRACE_SECONDS": str(grace)}
    for key, value in expected.items():
        if variables(container).get(key) != value:
            yield f"{name}: {key} is not {value}"


@rule
def sizes_have_one_owner(found: Sequence[Object]) -> Iterator[str]:
    """A workload has `replicas` or one autoscaler."""
    scaled = [
        (one["spec"]["scaleTargetRef"]["kind"], one["spec"]["scaleTargetRef"]["name"])
        for one in of_kind(found, "HorizontalPodAutoscaler", "ScaledObject")
    ]
    there = [(one["kind"], one["metadata"]["name"]) for one in workloads(found)]
    for target in sorted(set(scaled) - set(there)):
        yield f"an autoscaler scales {target[1]}, which is not there"
    for workload, target in zip(workloads(found), there, strict=True):
        owners = scaled.count(target) + ("replicas" in workload["spec"])
        if owners != 1:
            yield f"{target[1]}: its size has {owners} owners"


@rule
def replicas_says_how_many_pods_run(found: Sequence[Object]) -> Iterator[str]:
    """The setting `replicas` is "many" exactly where more than one orchestrator can run."""
    expected = "many" if most_pods(found) > 1 else "one"
    if (value := settings_values(found).get("replicas", "one")) != expected:
        yield f"replicas is {value!r}, not {expected!r}"


@rule
def models_have_time_to_load(found: Sequence[Object]) -> Iterator[str]:
    """A container that loads a model may take 10 minutes to start."""
    for name, container in all_containers(found):
        probe = container.get("startupProbe", {})
        seconds = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        if runs_vllm(container, found) and seconds < LOADING_SECONDS:
            yield f"{name}: starts within {seconds} s or is restarted"


@rule
def secondpass_is_probed_at_its_own_paths(found: Sequence[Object]) -> Iterator[str]:
    """Readiness asks /readyz, which fails while draining. Liveness and startup ask /livez, whatever engines do."""
    for name, container in all_containers(found):
        if container["name"] == "secondpass":
            for kind, path in PROBED.items():
                if container.get(kind, {}).get("httpGet", {}).get("path") != path:
                    yield f"{name}: {kind} does not ask {path}"
