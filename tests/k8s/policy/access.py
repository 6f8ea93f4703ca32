"""Rules for RBAC: permissions on the Kubernetes API."""

from collections.abc import Iterator, Sequence

from tests.k8s.manifests import Object, of_kind, pod_spec
from tests.k8s.policy.network import of_component
from tests.k8s.policy.registry import rule, workloads

RBAC = "rbac.authorization.k8s.io"
WATCH_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}


@rule
def rbac_only_lets_routers_watch_pods(objects: Sequence[Object]) -> Iterator[str]:
    """The router's ServiceAccount may get, list and watch pods.

    There are no other Roles, and no ClusterRoles.
    """
    routers = of_component(objects, "router")
    accounts = {
        (pod_spec(one).get("serviceAccountName"), one["metadata"].get("namespace"))
        for one in routers
    }
    roles = of_kind(objects, "Role")
    bindings = of_kind(objects, "RoleBinding")
    for one in objects:
        if one["apiVersion"].startswith(f"{RBAC}/") and one not in [*roles, *bindings]:
            yield f"{one['kind']} {one['metadata']['name']} is cluster-wide"
    if not len(roles) == len(bindings) == len(routers):
        yield f"{len(roles)} Roles and {len(bindings)} RoleBindings for {len(routers)} routers"
    for role in roles:
        if [_granted(one) for one in role.get("rules", [])] != [WATCH_PODS]:
            yield f"Role {role['metadata']['name']} does not grant exactly get, list and watch on pods"
    names = [one["metadata"]["name"] for one in roles]
    for binding in bindings:
        name, reference = binding["metadata"]["name"], binding["roleRef"]
        if (reference["apiGroup"], reference["kind"]) != (RBAC, "Role"):
            yield f"RoleBinding {name} refers to a {reference['kind']}"
        if reference["name"] not in names:
            yield f"RoleBinding {name} refers to the missing Role {reference['name']}"
        subjects = [
            (one["name"], one.get("namespace"))
            for one in binding["subjects"]
            if one["kind"] == "ServiceAccount"
        ]
        if set(subjects) != accounts or len(subjects) != len(binding["subjects"]):
            yield f"RoleBinding {name} has other subjects than the router"


def _granted(given: Object) -> Object:
    """Rule of a Role with sorted lists, because their order is irrelevant."""
    return {key: sorted(values) for key, values in given.items()}


@rule
def service_accounts_are_not_shared(objects: Sequence[Object]) -> Iterator[str]:
    """Each workload has its own ServiceAccount, so that a Role applies to one workload only."""
    users: dict[str, list[str]] = {}
    for one in workloads(objects):
        account = pod_spec(one).get("serviceAccountName", "default")
        users.setdefault(account, []).append(one["metadata"]["name"])
    for account, names in users.items():
        if len(names) > 1:
            yield f"ServiceAccount {account} is shared by {names}"
