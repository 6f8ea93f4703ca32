"""Every workload of every overlay keeps the rules of policy/, and each rule finds what breaks it."""

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
def test_an_overlay_keeps_a_rule(name: str, rule: str) -> None:
    assert list(RULES[rule](render_overlay(name))) == []


@pytest.mark.parametrize(
    ("rule", "break_it"),
    [pytest.param(rule, apply, id=f"{rule}-{name}") for rule, name, apply in VIOLATIONS],
)
def test_a_rule_finds_what_breaks_it(rule: str, break_it: Mutation) -> None:
    objects = render_overlay("prod")
    break_it(objects)
    assert list(RULES[rule](objects)) != []


def test_every_rule_is_broken_once() -> None:
    assert {rule for rule, _, _ in VIOLATIONS} == set(RULES)


def _with_containers(place: str, added: Object) -> list[Object]:
    """The overlay `prod` with one more container in each pod, before the others."""
    objects = render_overlay("prod")
    for workload in workloads(objects):
        pod_spec(workload).setdefault(place, []).insert(0, copy.deepcopy(added))
    return objects


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("place", ["initContainers", "containers"])
def test_a_rule_reads_a_container_that_has_a_name_and_an_image_alone(place: str, rule: str) -> None:
    problems = list(RULES[rule](_with_containers(place, {"name": "extra", "image": "extra:1"})))
    if rule in ("containers_are_unprivileged", "requests_and_memory_limits_are_set"):
        for name in ("secondpass", "vllm", "vllm-router"):
            assert any(problem.startswith(f"{name}/extra: ") for problem in problems)


@pytest.mark.parametrize("rule", RULES)
def test_an_init_container_that_ends_needs_no_probes(rule: str) -> None:
    box = next(
        box
        for _, box in containers(find_object(render_overlay("prod"), "Deployment", "secondpass"))
    )
    added = {key: box[key] for key in ("securityContext", "resources", "image")}
    assert list(RULES[rule](_with_containers("initContainers", {"name": "extra"} | added))) == []


@pytest.mark.parametrize("policy", [None, "Always"])
def test_an_init_container_needs_probes_where_it_runs_as_long_as_its_pod(
    policy: str | None,
) -> None:
    added = {"name": "extra", "image": "extra:1"} | ({"restartPolicy": policy} if policy else {})
    problems = list(RULES["probes_are_complete"](_with_containers("initContainers", added)))
    assert bool(problems) is (policy == "Always")


def _sources_of(objects: list[Object], policy: str) -> list[Object]:
    rules = find_object(objects, "NetworkPolicy", policy)["spec"]["ingress"]
    return [source for rule in rules for source in rule["from"]]


def test_the_open_demo_is_apart_from_what_it_could_replace_and_admits_its_own_namespace() -> None:
    demo = render_overlay("cpu-demo")
    spaces = {
        name: {one["metadata"]["namespace"] for one in render_overlay(name)} for name in OVERLAYS
    }
    assert all(
        spaces["cpu-demo"].isdisjoint(spaces[name]) for name in OVERLAYS if name != "cpu-demo"
    )
    assert _sources_of(demo, "secondpass") == [{"podSelector": {}}]


def test_engines_without_keys_are_reached_from_pods_of_the_deployment_alone() -> None:
    (source,) = _sources_of(render_overlay("prod"), "vllm")
    assert set(source) == {"podSelector"}
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "secondpass"}
