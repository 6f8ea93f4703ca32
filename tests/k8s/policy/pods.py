"""Rules for pods: privileges, volumes, resources, tokens, images and settings."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from tests.k8s.manifests import (
    CONFIG_MAP,
    Object,
    config_map,
    containers,
    env_values,
    find_object,
    of_kind,
    pod_spec,
    settings_values,
)
from tests.k8s.policy.registry import all_containers, rule, runs_vllm, workloads

KEYS_SECRET = "secondpass-api-keys"


@rule
def workloads_are_deployments(objects: Sequence[Object]) -> Iterator[str]:
    """The other rules read Deployments."""
    for one in [*workloads(objects), *of_kind(objects, "Pod", "ReplicaSet")]:
        if one["kind"] != "Deployment":
            yield f"{one['kind']} {one['metadata']['name']} is not checked"


@rule
def pods_are_unprivileged(objects: Sequence[Object]) -> Iterator[str]:
    """No root or group of root, the runtime's seccomp profile, and nothing of the node is shared."""
    for workload in workloads(objects):
        name, pod = workload["metadata"]["name"], pod_spec(workload)
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{name}: may run as root"
        groups = [context.get(key) for key in ("runAsGroup", "fsGroup")]
        if not all(groups) or 0 in context.get("supplementalGroups", []):
            yield f"{name}: may have the group of root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: seccompProfile is not RuntimeDefault"
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name}: shares a namespace of the node"
        if any("hostPath" in volume for volume in pod.get("volumes", [])):
            yield f"{name}: mounts a folder of the node"


@rule
def containers_are_unprivileged(objects: Sequence[Object]) -> Iterator[str]:
    """No escalation, no capabilities, a read-only root file system, and no port of the node."""
    for name, container in all_containers(objects):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name}: may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: its root file system is writable"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: has capabilities"
        if not {"runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile"}.isdisjoint(context):
            yield f"{name}: overrides the pod's user, group or seccomp profile"
        if any("hostPort" in port or "hostIP" in port for port in container.get("ports", [])):
            yield f"{name}: takes a port of the node"


@rule
def writable_volumes_are_bounded(objects: Sequence[Object]) -> Iterator[str]:
    """/tmp is writable, shared memory is memory, and every emptyDir has a size; mounts and volumes match."""
    for workload in workloads(objects):
        name = workload["metadata"]["name"]
        volumes = {one["name"]: one for one in pod_spec(workload).get("volumes", [])}
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


@rule
def engines_have_shared_memory_and_a_cache(objects: Sequence[Object]) -> Iterator[str]:
    """What runs vLLM has /dev/shm, and what downloads a model has a volume for it."""
    for name, container in all_containers(objects):
        paths = {one["mountPath"] for one in container.get("volumeMounts", [])}
        if runs_vllm(container, objects) and "/dev/shm" not in paths:
            yield f"{name}: no /dev/shm"
        if container.get("command", [])[:1] == ["vllm"] and "/cache" not in paths:
            yield f"{name}: no volume for the model"


@rule
def requests_and_memory_limits_are_set(objects: Sequence[Object]) -> Iterator[str]:
    """Requests for CPU and memory, a limit of memory, none of CPU."""
    for name, container in all_containers(objects):
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


@rule
def tokens_are_mounted_only_with_a_role(objects: Sequence[Object]) -> Iterator[str]:
    """A pod has a token of the Kubernetes API only where a role is bound to its account."""
    accounts = {one["metadata"]["name"]: one for one in of_kind(objects, "ServiceAccount")}
    bound = {
        (subject["name"], subject.get("namespace"))
        for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding")
        for subject in binding["subjects"]
    }
    for account in accounts.values():
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {account['metadata']['name']} mounts its token everywhere"
    for workload in workloads(objects):
        name, pod = workload["metadata"]["name"], pod_spec(workload)
        account_name = pod.get("serviceAccountName")
        if account_name not in accounts:
            yield f"{name}: its ServiceAccount is not there"
        needed = (account_name, workload["metadata"].get("namespace")) in bound
        if pod.get("automountServiceAccountToken") is not needed:
            yield f"{name}: automountServiceAccountToken is not {needed}"


@rule
def service_links_are_disabled(objects: Sequence[Object]) -> Iterator[str]:
    """Variables such as SECONDPASS_PORT=tcp://... would be read as settings."""
    for workload in workloads(objects):
        if pod_spec(workload).get("enableServiceLinks") is not False:
            yield f"{workload['metadata']['name']}: enableServiceLinks is not false"


@rule
def images_are_pinned(objects: Sequence[Object]) -> Iterator[str]:
    """Every image has a tag or a digest, and none is `latest`."""
    for name, container in all_containers(objects):
        _, _, tag = container["image"].rpartition("/")[2].partition(":")
        if "@sha256:" not in container["image"] and tag in ("", "latest"):
            yield f"{name}: the image {container['image']} has no version"


def own_container(workload: Object) -> Object:
    """The container `secondpass` of a Deployment, or an empty one."""
    own = [one for _, one in containers(workload) if one["name"] == "secondpass"]
    return own[0] if own else {}


@rule
def changed_settings_roll_the_pods(objects: Sequence[Object]) -> Iterator[str]:
    """The ConfigMap's name ends in a hash of its content, pods refer to it, and the variable names its file."""
    name = config_map(objects)["metadata"]["name"]
    if not re.fullmatch(rf"{CONFIG_MAP}-[a-z0-9]{{10}}", name):
        yield f"the ConfigMap {name} has no hash in its name"
    for workload in workloads(objects):
        if workload["metadata"]["name"] != "secondpass":
            continue
        used = [
            one["configMap"]["name"]
            for one in pod_spec(workload).get("volumes", [])
            if "configMap" in one
        ]
        if used != [name]:
            yield f"the pods mount {used}, not {name}"
        container = own_container(workload)
        paths = [one["mountPath"] for one in container.get("volumeMounts", [])]
        if env_values(container).get("SECONDPASS_CONFIG") not in paths:
            yield f"{name}: SECONDPASS_CONFIG is not mounted"


@rule
def api_keys_are_required(objects: Sequence[Object]) -> Iterator[str]:
    """A pod with API keys does not start without their Secret, and reads its file where it is mounted. Else it is open on purpose."""
    values = settings_values(objects)
    file = PurePosixPath(values.get("api_keys_file", ""))
    workload = find_object(objects, "Deployment", "secondpass")
    volumes = pod_spec(workload).get("volumes", [])
    secrets = {one["name"]: one["secret"] for one in volumes if "secret" in one}
    keys = {name for name, one in secrets.items() if one["secretName"] == KEYS_SECRET}
    if any(secrets[name].get("optional") for name in keys):
        yield f"the Secret {KEYS_SECRET} is optional"
    if file == PurePosixPath():
        if values.get("allow_unauthenticated") is not True or keys:
            yield "there is no api_keys_file"
        return
    given = own_container(workload).get("volumeMounts", [])
    mounts = [one for one in given if one["name"] in keys]
    if [one["mountPath"] for one in mounts] != [str(file.parent)] or file.name != "api-keys":
        yield f"the Secret {KEYS_SECRET} is not mounted at {file}"
    if values.get("allow_unauthenticated"):
        yield "allow_unauthenticated is set beside api_keys_file"
