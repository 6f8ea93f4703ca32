"""Broken copies for the rules of policy/pods.py."""

from tests.k8s.broken.changes import (
    Broken,
    drop_mount,
    edit_settings,
    set_field,
    set_variable,
    twice,
    without,
)
from tests.k8s.manifests import Object, config_map


def _no_hash(found: list[Object]) -> None:
    config_map(found)["metadata"]["name"] = "secondpass-config"


ROOT_USER = set_field("pod.securityContext.runAsNonRoot", value=False)
ESCALATES = set_field("box.securityContext.allowPrivilegeEscalation", value=True)
WRITABLE = set_field("box.securityContext.readOnlyRootFilesystem", value=False)
TOKEN = set_field("pod.automountServiceAccountToken", value=True)
NO_TOKEN = set_field("pod.automountServiceAccountToken", value=False, name="vllm-router")
LINKS = set_field("pod.enableServiceLinks", value=True)

BROKEN: list[Broken] = [
    ("workloads_are_deployments", "kind", twice("Deployment", "vllm", "StatefulSet")),
    ("pods_are_unprivileged", "root", ROOT_USER),
    ("pods_are_unprivileged", "user", set_field("pod.securityContext.runAsUser", None)),
    ("pods_are_unprivileged", "seccomp", set_field("pod.securityContext.seccompProfile", {})),
    ("pods_are_unprivileged", "host", set_field("pod.hostNetwork", value=True)),
    ("pods_are_unprivileged", "processes", set_field("pod.hostPID", value=True, name="vllm")),
    ("pods_are_unprivileged", "memory", set_field("pod.hostIPC", value=True, name="vllm-router")),
    ("pods_are_unprivileged", "group", set_field("pod.securityContext.runAsGroup", 0)),
    ("pods_are_unprivileged", "no group", set_field("pod.securityContext.runAsGroup", None)),
    ("pods_are_unprivileged", "files' group", set_field("pod.securityContext.fsGroup", 0)),
    (
        "pods_are_unprivileged",
        "another group",
        set_field("pod.securityContext.supplementalGroups", [3000, 0]),
    ),
    ("pods_are_unprivileged", "path", set_field("pod.volumes.0.hostPath", {})),
    ("containers_have_no_privileges", "escalation", ESCALATES),
    ("containers_have_no_privileges", "writable", WRITABLE),
    (
        "containers_have_no_privileges",
        "capabilities",
        set_field("box.securityContext.capabilities.add", ["NET_ADMIN"]),
    ),
    ("containers_have_no_privileges", "override", set_field("box.securityContext.runAsUser", 0)),
    ("containers_have_no_privileges", "group", set_field("box.securityContext.runAsGroup", 0)),
    ("containers_have_no_privileges", "node's port", set_field("box.ports.0.hostPort", 8000)),
    ("writable_folders_are_bounded", "tmp", drop_mount("/tmp", "vllm")),
    ("writable_folders_are_bounded", "unused", set_field("box.volumeMounts", [])),
    (
        "writable_folders_are_bounded",
        "size",
        set_field("pod.volumes.0.emptyDir", {}),
    ),
    ("engines_have_shared_memory_and_a_cache", "shm", drop_mount("/dev/shm", "vllm")),
    ("engines_have_shared_memory_and_a_cache", "cache", drop_mount("/cache", "vllm")),
    ("resources_are_bounded", "requests", set_field("box.resources.requests.memory", None)),
    ("resources_are_bounded", "limit", set_field("box.resources.limits", {})),
    ("resources_are_bounded", "cpu", set_field("box.resources.limits.cpu", "1")),
    (
        "resources_are_bounded",
        "gpu",
        set_field("box.resources.limits", {"memory": "1Gi"}, name="vllm"),
    ),
    ("tokens_are_mounted_only_where_needed", "pod", TOKEN),
    ("tokens_are_mounted_only_where_needed", "missing", NO_TOKEN),
    (
        "tokens_are_mounted_only_where_needed",
        "account",
        set_field("automountServiceAccountToken", value=True, kind="ServiceAccount"),
    ),
    ("tokens_are_mounted_only_where_needed", "unbound", without("RoleBinding", "vllm-router")),
    (
        "tokens_are_mounted_only_where_needed",
        "absent",
        set_field("pod.serviceAccountName", "other"),
    ),
    ("service_links_are_off", "links", LINKS),
    ("images_are_of_one_version", "latest", set_field("box.image", "secondpass:latest")),
    ("images_are_of_one_version", "none", set_field("box.image", "example.com:5000/secondpass")),
    ("a_changed_setting_rolls_the_pods", "hash", _no_hash),
    ("a_changed_setting_rolls_the_pods", "path", set_variable("SECONDPASS_CONFIG", "/etc/other")),
    ("keys_are_required", "optional", set_field("pod.volumes.1.secret.optional", value=True)),
    ("keys_are_required", "another", set_field("pod.volumes.1.secret.secretName", "other")),
    ("keys_are_required", "elsewhere", set_field("box.volumeMounts.1.mountPath", "/keys")),
    ("keys_are_required", "file", edit_settings("keys/api-keys", "keys/keys")),
    ("keys_are_required", "none", edit_settings("api_keys_file =", "# api_keys_file =")),
    (
        "keys_are_required",
        "open",
        edit_settings("max_runs =", "allow_unauthenticated = true\nmax_runs ="),
    ),
]
