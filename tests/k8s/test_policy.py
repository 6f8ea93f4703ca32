"""Every overlay satisfies the rules of policy/, and each rule reports its violations."""

import copy

import pytest

from tests.k8s.manifests import (
    OVERLAYS,
    Object,
    containers,
    find_object,
    pod_spec,
    render_overlay,
)
from tests.k8s.policy.all_rules import RULES
from tests.k8s.policy.registry import workloads
from tests.k8s.violations import access, isolation, lifecycle, network, pods, services
from tests.k8s.violations.mutations import Mutation

pytestmark = pytest.mark.compat

VIOLATIONS = [
    *pods.VIOLATIONS,
    *lifecycle.VIOLATIONS,
    *services.VIOLATIONS,
    *network.VIOLATIONS,
    *isolation.VIOLATIONS,
    *access.VIOLATIONS,
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_satisfies_rule(name: str, rule: str) -> None:
    assert list(RULES[rule](render_overlay(name))) == []


@pytest.mark.parametrize(
    ("rule", "mutate"),
    [pytest.param(rule, apply, id=f"{rule}-{name}") for rule, name, apply in VIOLATIONS],
)
def test_rule_reports_violation(rule: str, mutate: Mutation) -> None:
    objects = render_overlay("prod")
    mutate(objects)
    assert list(RULES[rule](objects)) != []


def test_every_rule_has_a_violation() -> None:
    assert {rule for rule, _, _ in VIOLATIONS} == set(RULES)


def _with_containers(place: str, added: Object) -> list[Object]:
    """The overlay `prod` with an additional first container in each pod."""
    objects = render_overlay("prod")
    for workload in workloads(objects):
        pod_spec(workload).setdefault(place, []).insert(0, copy.deepcopy(added))
    return objects


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("place", ["initContainers", "containers"])
def test_rule_handles_a_minimal_container(place: str, rule: str) -> None:
    problems = list(RULES[rule](_with_containers(place, {"name": "extra", "image": "extra:1"})))
    if rule in ("containers_are_unprivileged", "requests_and_memory_limits_are_set"):
        for name in ("secondpass", "vllm", "vllm-router"):
            assert any(problem.startswith(f"{name}/extra: ") for problem in problems)


@pytest.mark.parametrize("rule", RULES)
def test_init_container_needs_no_probes(rule: str) -> None:
    deployment = find_object(render_overlay("prod"), "Deployment", "secondpass")
    _, container = next(containers(deployment))
    added = {key: container[key] for key in ("securityContext", "resources", "image")}
    assert list(RULES[rule](_with_containers("initContainers", {"name": "extra"} | added))) == []


@pytest.mark.parametrize("policy", [None, "Always"])
def test_only_sidecar_init_containers_need_probes(
    policy: str | None,
) -> None:
    added = {"name": "extra", "image": "extra:1"} | ({"restartPolicy": policy} if policy else {})
    problems = list(RULES["probes_are_complete"](_with_containers("initContainers", added)))
    assert bool(problems) is (policy == "Always")


def _sources_of(objects: list[Object], policy: str) -> list[Object]:
    rules = find_object(objects, "NetworkPolicy", policy)["spec"]["ingress"]
    return [source for rule in rules for source in rule["from"]]


def test_unauthenticated_demo_has_its_own_namespace_and_admits_only_that() -> None:
    demo = render_overlay("cpu-demo")
    spaces = {
        name: {one["metadata"]["namespace"] for one in render_overlay(name)} for name in OVERLAYS
    }
    assert all(
        spaces["cpu-demo"].isdisjoint(spaces[name]) for name in OVERLAYS if name != "cpu-demo"
    )
    assert _sources_of(demo, "secondpass") == [{"podSelector": {}}]


def test_engines_admit_only_secondpass_pods() -> None:
    (source,) = _sources_of(render_overlay("prod"), "vllm")
    assert set(source) == {"podSelector"}
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "secondpass"}
