"""Rules that every overlay keeps. A rule returns what is wrong, as one line for each problem."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from urllib.parse import urlsplit

from tests.k8s.manifests import (
    CONFIG_MAP,
    Object,
    config_map,
    containers,
    labels_of,
    most_pods,
    of_kind,
    pod_of,
    selects,
    settings_values,
    variables,
)

Rule = Callable[[Sequence[Object]], Iterator[str]]

PRE_STOP_SECONDS = 15
CLOSING_SECONDS = 7
LONGEST_SOLVE_MS = 600_000  # the default of max_deadline_ms
RULES: dict[str, Rule] = {}


def _rule(function: Rule) -> Rule:
    RULES[function.__name__] = function
    return function


def _workloads(found: Sequence[Object]) -> list[Object]:
    return of_kind(found, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def _all_containers(found: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    return chain.from_iterable(map(containers, _workloads(found)))


@_rule
def workloads_are_deployments(found: Sequence[Object]) -> Iterator[str]:
    """The other rules read Deployments."""
    for one in [*_workloads(found), *of_kind(found, "Pod", "ReplicaSet")]:
        if one["kind"] != "Deployment":
            yield f"{one['kind']} {one['metadata']['name']} is not checked"


@_rule
def pods_are_unprivileged(found: Sequence[Object]) -> Iterator[str]:
    """No root, the runtime's seccomp profile, and nothing of the node is shared."""
    for workload in _workloads(found):
        name, pod = workload["metadata"]["name"], pod_of(workload)
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{name}: may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: seccompProfile is not RuntimeDefault"
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name}: shares a namespace of the node"
        if any("hostPath" in volume for volume in pod.get("volumes", [])):
            yield f"{name}: mounts a folder of the node"


@_rule
def containers_have_no_privileges(found: Sequence[Object]) -> Iterator[str]:
    """No escalation, no capabilities, and a read-only root file system."""
    for name, container in _all_containers(found):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name}: may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: its root file system is writable"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: has capabilities"
        if not {"runAsUser", "runAsNonRoot", "seccompProfile"}.isdisjoint(context):
            yield f"{name}: overrides the pod's user or seccomp profile"


@_rule
def writable_folders_are_bounded(found: Sequence[Object]) -> Iterator[str]:
    """/tmp is writable, shared memory is memory, and every emptyDir has a size; mounts and volumes match."""
    for workload in _workloads(found):
        name = workload["metadata"]["name"]
        volumes = {one["name"]: one for one in pod_of(workload).get("volumes", [])}
        mounts = [one for _, each in containers(workload) for one in each.get("volumeMounts", [])]
        if {one["name"] for one in mounts} != set(volumes):
            yield f"{name}: volumes and mounts differ"
            continue
        at = {one["mountPath"]: volumes[one["name"]] for one in mounts}
        if "emptyDir" not in at.get("/tmp", {}):
            yield f"{name}: /tmp is not writable"
        if "/dev/shm" in at and at["/dev/shm"].get("emptyDir", {}).get("medium") != "Memory":
            yield f"{name}: /dev/shm is not in memory"
        for volume in volumes.values():
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{name}: the volume {volume['name']} has no sizeLimit"


@_rule
def engines_have_shared_memory_and_a_cache(found: Sequence[Object]) -> Iterator[str]:
    """What runs vLLM has /dev/shm, and what downloads a model has a volume for it."""
    for name, container in _all_containers(found):
        paths = {one["mountPath"] for one in container.get("volumeMounts", [])}
        if _runs_vllm(container, found) and "/dev/shm" not in paths:
            yield f"{name}: no /dev/shm"
        if container.get("command", [])[:1] == ["vllm"] and "/cache" not in paths:
            yield f"{name}: no volume for the model"


def _runs_vllm(container: Object, found: Sequence[Object]) -> bool:
    own = container["name"] == "secondpass" and settings_values(found).get("engine") == "vllm"
    return own or container.get("command", [])[:1] == ["vllm"]


@_rule
def probes_are_complete(found: Sequence[Object]) -> Iterator[str]:
    """Startup, readiness and liveness, on a port that exists; readiness every 2 to 5 s."""
    for name, container in _all_containers(found):
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


@_rule
def shutdown_follows_one_number(found: Sequence[Object]) -> Iterator[str]:
    """The grace period exceeds preStop, the longest solve and closing; every copy of it is the same."""
    longest = settings_values(found).get("max_deadline_ms", LONGEST_SOLVE_MS) / 1000
    needed = PRE_STOP_SECONDS + longest + CLOSING_SECONDS
    numbers = set()
    for workload in _workloads(found):
        name = workload["metadata"]["name"]
        grace = pod_of(workload).get("terminationGracePeriodSeconds", 30)
        numbers.add(grace)
        if grace <= needed:
            yield f"{name}: a grace period of {grace} s is not above {needed:g} s"
        for where, container in containers(workload):
            yield from _drains(where, container, grace)
    if len(numbers) > 1:
        yield f"grace periods differ: {sorted(numbers)}"


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


@_rule
def resources_are_bounded(found: Sequence[Object]) -> Iterator[str]:
    """Requests for CPU and memory, a limit of memory, none of CPU."""
    for name, container in _all_containers(found):
        requests = container.get("resources", {}).get("requests", {})
        limits = container.get("resources", {}).get("limits", {})
        if not {"cpu", "memory"} <= set(requests):
            yield f"{name}: requests lack CPU or memory"
        if "memory" not in limits:
            yield f"{name}: no limit of memory"
        if "cpu" in limits:
            yield f"{name}: a limit of CPU"
        if requests.get("nvidia.com/gpu") != limits.get("nvidia.com/gpu"):
            yield f"{name}: request and limit of GPUs differ"


@_rule
def tokens_are_mounted_only_where_needed(found: Sequence[Object]) -> Iterator[str]:
    """A pod has a token of the Kubernetes API only where a role is bound to its account."""
    accounts = {one["metadata"]["name"]: one for one in of_kind(found, "ServiceAccount")}
    bound = {
        (subject["name"], subject.get("namespace"))
        for binding in of_kind(found, "RoleBinding", "ClusterRoleBinding")
        for subject in binding["subjects"]
    }
    for account in accounts.values():
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {account['metadata']['name']} mounts its token everywhere"
    for workload in _workloads(found):
        name, pod = workload["metadata"]["name"], pod_of(workload)
        account_name = pod.get("serviceAccountName")
        if account_name not in accounts:
            yield f"{name}: its ServiceAccount is not there"
        needed = (account_name, workload["metadata"].get("namespace")) in bound
        if pod.get("automountServiceAccountToken") is not needed:
            yield f"{name}: automountServiceAccountToken is not {needed}"


@_rule
def service_links_are_off(found: Sequence[Object]) -> Iterator[str]:
    """Variables such as SECONDPASS_PORT=tcp://... would be read as settings."""
    for workload in _workloads(found):
        if pod_of(workload).get("enableServiceLinks") is not False:
            yield f"{workload['metadata']['name']}: enableServiceLinks is not false"


@_rule
def sizes_have_one_owner(found: Sequence[Object]) -> Iterator[str]:
    """A workload has `replicas` or one autoscaler."""
    scaled = [
        (one["spec"]["scaleTargetRef"]["kind"], one["spec"]["scaleTargetRef"]["name"])
        for one in of_kind(found, "HorizontalPodAutoscaler", "ScaledObject")
    ]
    there = [(one["kind"], one["metadata"]["name"]) for one in _workloads(found)]
    for target in sorted(set(scaled) - set(there)):
        yield f"an autoscaler scales {target[1]}, which is not there"
    for workload, target in zip(_workloads(found), there, strict=True):
        owners = scaled.count(target) + ("replicas" in workload["spec"])
        if owners != 1:
            yield f"{target[1]}: its size has {owners} owners"


@_rule
def replicas_says_how_many_pods_run(found: Sequence[Object]) -> Iterator[str]:
    """The setting `replicas` is "many" exactly where more than one orchestrator can run."""
    expected = "many" if most_pods(found) > 1 else "one"
    if (value := settings_values(found).get("replicas", "one")) != expected:
        yield f"replicas is {value!r}, not {expected!r}"


@_rule
def selectors_match(found: Sequence[Object]) -> Iterator[str]:
    """Each Deployment selects its pods alone, and has one PodDisruptionBudget and NetworkPolicies for both directions."""
    for workload in _workloads(found):
        name, labels = workload["metadata"]["name"], labels_of(workload)
        chosen = [
            one["metadata"]["name"]
            for one in _workloads(found)
            if selects(workload["spec"]["selector"], labels_of(one))
        ]
        if chosen != [name]:
            yield f"{name}: selects {chosen}"
        budgets = [
            one
            for one in of_kind(found, "PodDisruptionBudget")
            if selects(one["spec"]["selector"], labels)
        ]
        if [one["spec"].get("maxUnavailable") for one in budgets] != [1]:
            yield f"{name}: not one PodDisruptionBudget with maxUnavailable 1"
        directions = {
            direction
            for one in of_kind(found, "NetworkPolicy")
            if selects(one["spec"]["podSelector"], labels)
            for direction in one["spec"]["policyTypes"]
        }
        if directions != {"Ingress", "Egress"}:
            yield f"{name}: NetworkPolicies hold for {sorted(directions)}"
    for one in of_kind(found, "PodDisruptionBudget", "NetworkPolicy"):
        selector = one["spec"].get("podSelector") or one["spec"].get("selector")
        if not any(selects(selector, labels_of(workload)) for workload in _workloads(found)):
            yield f"{one['kind']} {one['metadata']['name']} selects nothing"


@_rule
def services_reach_their_pods(found: Sequence[Object]) -> Iterator[str]:
    """Services name ports of the pods that they select, and NetworkPolicies admit those ports."""
    for service in of_kind(found, "Service"):
        name = service["metadata"]["name"]
        chosen = [
            one for one in _workloads(found) if selects(service["spec"]["selector"], labels_of(one))
        ]
        if len(chosen) != 1:
            yield f"Service {name} selects {len(chosen)} workloads"
            continue
        there = {
            port["name"]: port["containerPort"]
            for _, container in containers(chosen[0])
            for port in container.get("ports", [])
        }
        admitted = {
            port["port"]
            for policy in of_kind(found, "NetworkPolicy")
            if selects(policy["spec"]["podSelector"], labels_of(chosen[0]))
            for rule in policy["spec"].get("ingress", [])
            for port in rule["ports"]
        }
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in there:
                yield f"Service {name}: the pods have no port {port['targetPort']}"
            elif there[port["targetPort"]] not in admitted:
                yield f"Service {name}: no NetworkPolicy admits {port['targetPort']}"


@_rule
def engines_are_reached(found: Sequence[Object]) -> Iterator[str]:
    """Each engine's address is a Service of the overlay, and its model is the one that vLLM serves."""
    ports = {
        one["metadata"]["name"]: [port["port"] for port in one["spec"]["ports"]]
        for one in of_kind(found, "Service")
    }
    served = [
        next(argument for argument in container["args"] if not argument.startswith("-"))
        for name, container in _all_containers(found)
        if container.get("command") == ["vllm", "serve"] and not name.startswith("secondpass/")
    ]
    for name, engine in settings_values(found).get("engines", {}).items():
        address = urlsplit(engine.get("url", ""))
        if address.port not in ports.get(address.hostname or "", []):
            yield f"engine {name}: {engine.get('url')} is no Service of this overlay"
        if engine.get("model") not in served:
            yield f"engine {name}: nothing serves {engine.get('model')}"


@_rule
def calls_have_sessions_before_a_hashing_router(found: Sequence[Object]) -> Iterator[str]:
    """vllm-router's `consistent_hash` sends all calls without a session to one engine."""
    hashes = any("--policy=consistent_hash" in each["args"] for _, each in _all_containers(found))
    values = settings_values(found)
    wanted = {"session_of_large_votes": "split", "session_of_forwards": "opening"}
    for key, value in wanted.items():
        if hashes and values.get(key) != value:
            yield f"{key} is not {value!r}"


@_rule
def routes_have_no_timeout(found: Sequence[Object]) -> Iterator[str]:
    """Every rule of an HTTPRoute disables the gateway's timeouts and ends at a Service."""
    services = {one["metadata"]["name"] for one in of_kind(found, "Service")}
    for route in of_kind(found, "HTTPRoute"):
        for number, rule in enumerate(route["spec"]["rules"]):
            if rule.get("timeouts") != {"request": "0s", "backendRequest": "0s"}:
                yield f"rule {number} of an HTTPRoute has a timeout"
            if not {one["name"] for one in rule["backendRefs"]} <= services:
                yield f"rule {number} of an HTTPRoute ends nowhere"


@_rule
def images_are_of_one_version(found: Sequence[Object]) -> Iterator[str]:
    """Every image has a tag or a digest, and none is `latest`."""
    for name, container in _all_containers(found):
        _, _, tag = container["image"].rpartition("/")[2].partition(":")
        if "@sha256:" not in container["image"] and tag in ("", "latest"):
            yield f"{name}: the image {container['image']} has no version"


@_rule
def a_changed_setting_rolls_the_pods(found: Sequence[Object]) -> Iterator[str]:
    """The ConfigMap's name ends in a hash of its content, pods refer to it, and the variable names its file."""
    name = config_map(found)["metadata"]["name"]
    if not re.fullmatch(rf"{CONFIG_MAP}-[a-z0-9]{{10}}", name):
        yield f"the ConfigMap {name} has no hash in its name"
    for workload in _workloads(found):
        if workload["metadata"]["name"] != "secondpass":
            continue
        used = [
            one["configMap"]["name"] for one in pod_of(workload)["volumes"] if "configMap" in one
        ]
        if used != [name]:
            yield f"the pods mount {used}, not {name}"
        for where, container in containers(workload):
            paths = [one["mountPath"] for one in container["volumeMounts"]]
            if variables(container).get("SECONDPASS_CONFIG") not in paths:
                yield f"{where}: SECONDPASS_CONFIG is not mounted"
