"""Violations of the rules of policy/pods.py."""

from tests.k8s.manifests import Object, config_map
from tests.k8s.violations.mutations import (
    Violation,
    duplicate_object,
    remove_mount,
    remove_object,
    replace_in_settings,
    set_env,
    set_field,
)


def _no_hash(objects: list[Object]) -> None:
    config_map(objects)["metadata"]["name"] = "secondpass-config"


ROOT_USER = set_field("pod.securityContext.runAsNonRoot", value=False)
ESCALATES = set_field("container.securityContext.allowPrivilegeEscalation", value=True)
WRITABLE = set_field("container.securityContext.readOnlyRootFilesystem", value=False)
TOKEN = set_field("pod.automountServiceAccountToken", value=True)
NO_TOKEN = set_field("pod.automountServiceAccountToken", value=False, name="vllm-router")
LINKS = set_field("pod.enableServiceLinks", value=True)

VIOLATIONS: list[Violation] = [
    ("workloads_are_deployments", "kind", duplicate_object("Deployment", "vllm", "StatefulSet")),
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
    ("containers_are_unprivileged", "escalation", ESCALATES),
    ("containers_are_unprivileged", "writable", WRITABLE),
    (
        "containers_are_unprivileged",
        "capabilities",
        set_field("container.securityContext.capabilities.add", ["NET_ADMIN"]),
    ),
    (
        "containers_are_unprivileged",
        "override",
        set_field("container.securityContext.runAsUser", 0),
    ),
    ("containers_are_unprivileged", "group", set_field("container.securityContext.runAsGroup", 0)),
    ("containers_are_unprivileged", "node's port", set_field("container.ports.0.hostPort", 8000)),
    ("writable_volumes_are_bounded", "tmp", remove_mount("/tmp", "vllm")),
    ("writable_volumes_are_bounded", "unused", set_field("container.volumeMounts", [])),
    (
        "writable_volumes_are_bounded",
        "size",
        set_field("pod.volumes.0.emptyDir", {}),
    ),
    ("engines_have_shared_memory_and_a_cache", "shm", remove_mount("/dev/shm", "vllm")),
    ("engines_have_shared_memory_and_a_cache", "cache", remove_mount("/cache", "vllm")),
    (
        "requests_and_memory_limits_are_set",
        "requests",
        set_field("container.resources.requests.memory", None),
    ),
    ("requests_and_memory_limits_are_set", "limit", set_field("container.resources.limits", {})),
    ("requests_and_memory_limits_are_set", "cpu", set_field("container.resources.limits.cpu", "1")),
    (
        "requests_and_memory_limits_are_set",
        "gpu",
        set_field("container.resources.limits", {"memory": "1Gi"}, name="vllm"),
    ),
    ("tokens_are_mounted_only_with_a_role", "pod", TOKEN),
    ("tokens_are_mounted_only_with_a_role", "missing", NO_TOKEN),
    (
        "tokens_are_mounted_only_with_a_role",
        "account",
        set_field("automountServiceAccountToken", value=True, kind="ServiceAccount"),
    ),
    ("tokens_are_mounted_only_with_a_role", "unbound", remove_object("RoleBinding", "vllm-router")),
    (
        "tokens_are_mounted_only_with_a_role",
        "absent",
        set_field("pod.serviceAccountName", "other"),
    ),
    ("service_links_are_disabled", "links", LINKS),
    ("images_are_pinned", "latest", set_field("container.image", "secondpass:latest")),
    ("images_are_pinned", "none", set_field("container.image", "example.com:5000/secondpass")),
    ("changed_settings_roll_the_pods", "hash", _no_hash),
    ("changed_settings_roll_the_pods", "path", set_env("SECONDPASS_CONFIG", "/etc/other")),
    ("api_keys_are_required", "optional", set_field("pod.volumes.1.secret.optional", value=True)),
    ("api_keys_are_required", "another", set_field("pod.volumes.1.secret.secretName", "other")),
    (
        "api_keys_are_required",
        "elsewhere",
        set_field("container.volumeMounts.1.mountPath", "/keys"),
    ),
    ("api_keys_are_required", "file", replace_in_settings("keys/api-keys", "keys/keys")),
    ("api_keys_are_required", "none", replace_in_settings("api_keys_file =", "# api_keys_file =")),
    (
        "api_keys_are_required",
        "open",
        replace_in_settings("max_runs =", "allow_unauthenticated = true\nmax_runs ="),
    ),
]
