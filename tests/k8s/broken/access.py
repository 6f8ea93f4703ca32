"""Broken copies for the rules of policy/access.py."""

from typing import Any

from tests.k8s.broken.changes import Break, Broken, set_field, twice, without
from tests.k8s.policy.access import WATCH_PODS

RULE = "routers_watch_pods_and_nothing_else_has_a_role"
SHARED = "accounts_are_not_shared"


def _role(path: str, value: Any) -> Break:
    return set_field(path, value, name="vllm-router", kind="Role")


def _binding(path: str, value: Any) -> Break:
    return set_field(path, value, name="vllm-router", kind="RoleBinding")


def _user(kind: str) -> dict[str, str]:
    return {"kind": kind, "name": "vllm-router", "namespace": "secondpass"}


OTHER = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}

BROKEN: list[Broken] = [
    (RULE, "all verbs", _role("rules.0.verbs", ["*"])),
    (RULE, "delete", _role("rules.0.verbs", ["get", "list", "watch", "delete"])),
    (RULE, "no watch", _role("rules.0.verbs", ["get", "list"])),
    (RULE, "all resources", _role("rules.0.resources", ["*"])),
    (RULE, "secrets", _role("rules.0.resources", ["pods", "secrets"])),
    (RULE, "exec", _role("rules.0.resources", ["pods", "pods/exec"])),
    (RULE, "groups", _role("rules.0.apiGroups", ["", "apps"])),
    (RULE, "names", _role("rules.0.resourceNames", ["vllm-0"])),
    (RULE, "second rule", _role("rules", [WATCH_PODS, OTHER])),
    (RULE, "empty", _role("rules", [])),
    (RULE, "second role", twice("Role", "vllm-router", "Role")),
    (RULE, "cluster role", twice("Role", "vllm-router", "ClusterRole")),
    (RULE, "cluster binding", twice("RoleBinding", "vllm-router", "ClusterRoleBinding")),
    (RULE, "no role", without("Role", "vllm-router")),
    (RULE, "no binding", without("RoleBinding", "vllm-router")),
    (RULE, "kind", _binding("roleRef.kind", "ClusterRole")),
    (RULE, "reference", _binding("roleRef.name", "view")),
    (RULE, "account", _binding("subjects.0.name", "secondpass")),
    (RULE, "namespace", _binding("subjects.0.namespace", "other")),
    (RULE, "group", _binding("subjects", [_user("Group")])),
    (RULE, "another", _binding("subjects", [_user("ServiceAccount"), _user("User")])),
    (SHARED, "router's", set_field("pod.serviceAccountName", "vllm-router")),
    (SHARED, "none", set_field("pod.serviceAccountName", "vllm", name="vllm-router")),
]
