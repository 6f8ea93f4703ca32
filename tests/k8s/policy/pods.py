"""Rules for pods: privileges, volumes, resources, tokens, images, settings and API keys."""

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
    """All workloads are Deployments, because the other rules check only those."""
    for one in [*workloads(objects), *of_kind(objects, "Pod", "ReplicaSet")]:
        if one["kind"] != "Deployment":
            yield f"{one['kind']} {one['metadata']['name']} is not checked"


@rule
def pods_are_unprivileged(objects: Sequence[Object]) -> Iterator[str]:
    """Pods run without root user or group, with the runtime's seccomp profile, isolated from the node."""
    for workload in workloads(objects):
        name, pod = workload["metadata"]["name"], pod_spec(workload)
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{name}: may run as root"
        groups = [context.get(key) for key in ("runAsGroup", "fsGroup")]
        if not all(groups) or 0 in context.get("supplementalGroups", []):
            yield f"{name}: may run with the root group"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: seccompProfile is not RuntimeDefault"
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name}: uses a host namespace"
        if any("hostPath" in volume for volume in pod.get("volumes", [])):
            yield f"{name}: mounts a hostPath"


@rule
def containers_are_unprivileged(objects: Sequence[Object]) -> Iterator[str]:
    """No privilege escalation or capabilities, a read-only root file system, and no host port."""
    for name, container in all_containers(objects):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name}: may escalate privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: its root file system is writable"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: does not drop all capabilities"
        if not {"runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile"}.isdisjoint(context):
            yield f"{name}: overrides the pod's user, group or seccomp profile"
        if any("hostPort" in port or "hostIP" in port for port in container.get("ports", [])):
            yield f"{name}: uses a host port"


@rule
def writable_volumes_are_bounded(objects: Sequence[Object]) -> Iterator[str]:
    """/tmp is writable, /dev/shm is in memory, and every emptyDir has a sizeLimit.

    All volumes are mounted.
    """
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
    """Containers that run vLLM have /dev/shm; those that start `vllm` have a model cache volume."""
    for name, container in all_containers(objects):
        paths = {one["mountPath"] for one in container.get("volumeMounts", [])}
        if runs_vllm(container, objects) and "/dev/shm" not in paths:
            yield f"{name}: no /dev/shm"
        if container.get("command", [])[:1] == ["vllm"] and "/cache" not in paths:
            yield f"{name}: no volume for the model cache"


@rule
def requests_and_memory_limits_are_set(objects: Sequence[Object]) -> Iterator[str]:
    """CPU and memory requests and a memory limit are set; a CPU limit is not."""
    for name, container in all_containers(objects):
        requests = container.get("resources", {}).get("requests", {})
        limits = container.get("resources", {}).get("limits", {})
        if not {"cpu", "memory"} <= set(requests):
            yield f"{name}: requests lack CPU or memory"
        if "memory" not in limits:
            yield f"{name}: no memory limit"
        if "cpu" in limits:
            yield f"{name}: has a CPU limit"
        if requests.get("nvidia.com/gpu") != limits.get("nvidia.com/gpu"):
            yield f"{name}: GPU request and limit differ"


@rule
def tokens_are_mounted_only_with_a_role(objects: Sequence[Object]) -> Iterator[str]:
    """A pod mounts its ServiceAccount token only if a role is bound to the account."""
    accounts = {one["metadata"]["name"]: one for one in of_kind(objects, "ServiceAccount")}
    bound = {
        (subject["name"], subject.get("namespace"))
        for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding")
        for subject in binding["subjects"]
    }
    for account in accounts.values():
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {account['metadata']['name']} does not disable automountServiceAccountToken"
    for workload in workloads(objects):
        name, pod = workload["metadata"]["name"], pod_spec(workload)
        account_name = pod.get("serviceAccountName")
        if account_name not in accounts:
            yield f"{name}: its ServiceAccount is missing"
        needed = (account_name, workload["metadata"].get("namespace")) in bound
        if pod.get("automountServiceAccountToken") is not needed:
            yield f"{name}: automountServiceAccountToken is not {needed}"


@rule
def service_links_are_disabled(objects: Sequence[Object]) -> Iterator[str]:
    """enableServiceLinks is false: SECONDPASS_PORT=tcp://... would be read as a setting."""
    for workload in workloads(objects):
        if pod_spec(workload).get("enableServiceLinks") is not False:
            yield f"{workload['metadata']['name']}: enableServiceLinks is not false"


@rule
def images_are_pinned(objects: Sequence[Object]) -> Iterator[str]:
    """Every image has a digest or a tag other than `latest`."""
    for name, container in all_containers(objects):
        _, _, tag = container["image"].rpartition("/")[2].partition(":")
        if "@sha256:" not in container["image"] and tag in ("", "latest"):
            yield f"{name}: the image {container['image']} is not pinned"


def own_container(workload: Object) -> Object:
    """Container `secondpass` of a workload, or an empty object."""
    own = [one for _, one in containers(workload) if one["name"] == "secondpass"]
    return own[0] if own else {}


@rule
def changed_settings_roll_the_pods(objects: Sequence[Object]) -> Iterator[str]:
    """A changed setting rolls the pods.

    The ConfigMap's name ends in a hash of its content, the pods mount it, and SECONDPASS_CONFIG is the mounted file.
    """
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
    """API keys come from a required Secret, mounted at api_keys_file.

    Without api_keys_file, allow_unauthenticated must be set.
    """
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
            yield "api_keys_file is not set"
        return
    given = own_container(workload).get("volumeMounts", [])
    mounts = [one for one in given if one["name"] in keys]
    if [one["mountPath"] for one in mounts] != [str(file.parent)] or file.name != "api-keys":
        yield f"the Secret {KEYS_SECRET} is not mounted at {file}"
    if values.get("allow_unauthenticated"):
        yield "allow_unauthenticated and api_keys_file are both set"
