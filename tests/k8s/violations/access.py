"""Violations of the rules of policy/access.py."""

from typing import Any

from tests.k8s.policy.access import WATCH_PODS
from tests.k8s.violations.mutations import (
    Mutation,
    Violation,
    duplicate_object,
    remove_object,
    set_field,
)

RULE = "rbac_only_lets_routers_watch_pods"
SHARED = "service_accounts_are_not_shared"


def _role(path: str, value: Any) -> Mutation:
    return set_field(path, value, name="vllm-router", kind="Role")


def _binding(path: str, value: Any) -> Mutation:
    return set_field(path, value, name="vllm-router", kind="RoleBinding")


def _user(kind: str) -> dict[str, str]:
    return {"kind": kind, "name": "vllm-router", "namespace": "secondpass"}


OTHER = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}

VIOLATIONS: list[Violation] = [
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
    (RULE, "second role", duplicate_object("Role", "vllm-router", "Role")),
    (RULE, "cluster role", duplicate_object("Role", "vllm-router", "ClusterRole")),
    (RULE, "cluster binding", duplicate_object("RoleBinding", "vllm-router", "ClusterRoleBinding")),
    (RULE, "no role", remove_object("Role", "vllm-router")),
    (RULE, "no binding", remove_object("RoleBinding", "vllm-router")),
    (RULE, "kind", _binding("roleRef.kind", "ClusterRole")),
    (RULE, "reference", _binding("roleRef.name", "view")),
    (RULE, "account", _binding("subjects.0.name", "secondpass")),
    (RULE, "namespace", _binding("subjects.0.namespace", "other")),
    (RULE, "group", _binding("subjects", [_user("Group")])),
    (RULE, "another", _binding("subjects", [_user("ServiceAccount"), _user("User")])),
    (SHARED, "router's", set_field("pod.serviceAccountName", "vllm-router")),
    (SHARED, "none", set_field("pod.serviceAccountName", "vllm", name="vllm-router")),
]
