"""Every workload of every overlay keeps the rules of policy/, and each rule finds what breaks it."""

import copy

import pytest

from tests.k8s.broken import access, bounds, lifecycle, network, pods, services
from tests.k8s.broken.changes import Break
from tests.k8s.manifests import (
    OVERLAYS,
    Object,
    containers,
    named,
    overlay,
    pod_of,
)
from tests.k8s.policy.every import RULES
from tests.k8s.policy.registry import workloads

pytestmark = pytest.mark.compat

BROKEN = [
    *pods.BROKEN,
    *lifecycle.BROKEN,
    *services.BROKEN,
    *network.BROKEN,
    *bounds.BROKEN,
    *access.BROKEN,
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_keeps_a_rule(name: str, rule: str) -> None:
    assert list(RULES[rule](overlay(name))) == []


@pytest.mark.parametrize(
    ("rule", "break_it"),
    [pytest.param(rule, apply, id=f"{rule}-{name}") for rule, name, apply in BROKEN],
)
def test_a_rule_finds_what_breaks_it(rule: str, break_it: Break) -> None:
    found = overlay("prod")
    break_it(found)
    assert list(RULES[rule](found)) != []


def test_every_rule_is_broken_once() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def _with_containers(place: str, added: Object) -> list[Object]:
    """The overlay `prod` with one more container in each pod, before the others."""
    found = overlay("prod")
    for workload in workloads(found):
        pod_of(workload).setdefault(place, []).insert(0, copy.deepcopy(added))
    return found


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("place", ["initContainers", "containers"])
def test_a_rule_reads_a_container_that_has_a_name_and_an_image_alone(place: str, rule: str) -> None:
    problems = list(RULES[rule](_with_containers(place, {"name": "extra", "image": "extra:1"})))
    if rule in ("containers_have_no_privileges", "resources_are_bounded"):
        for name in ("secondpass", "vllm", "vllm-router"):
            assert any(problem.startswith(f"{name}/extra: ") for problem in problems)


@pytest.mark.parametrize("rule", RULES)
def test_an_init_container_that_ends_needs_no_probes(rule: str) -> None:
    box = next(box for _, box in containers(named(overlay("prod"), "Deployment", "secondpass")))
    added = {key: box[key] for key in ("securityContext", "resources", "image")}
    assert list(RULES[rule](_with_containers("initContainers", {"name": "extra"} | added))) == []


@pytest.mark.parametrize("policy", [None, "Always"])
def test_an_init_container_needs_probes_where_it_runs_as_long_as_its_pod(
    policy: str | None,
) -> None:
    added = {"name": "extra", "image": "extra:1"} | ({"restartPolicy": policy} if policy else {})
    problems = list(RULES["probes_are_complete"](_with_containers("initContainers", added)))
    assert bool(problems) is (policy == "Always")


def _sources_of(found: list[Object], policy: str) -> list[Object]:
    rules = named(found, "NetworkPolicy", policy)["spec"]["ingress"]
    return [source for rule in rules for source in rule["from"]]


def test_the_open_demo_is_apart_from_what_it_could_replace_and_admits_its_own_namespace() -> None:
    demo = overlay("cpu-demo")
    spaces = {name: {one["metadata"]["namespace"] for one in overlay(name)} for name in OVERLAYS}
    assert all(
        spaces["cpu-demo"].isdisjoint(spaces[name]) for name in OVERLAYS if name != "cpu-demo"
    )
    assert _sources_of(demo, "secondpass") == [{"podSelector": {}}]


def test_engines_without_keys_are_reached_from_pods_of_the_deployment_alone() -> None:
    (source,) = _sources_of(overlay("prod"), "vllm")
    assert set(source) == {"podSelector"}
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "secondpass"}
