"""Every workload of every overlay keeps the rules of policy.py, and each rule finds what breaks it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.k8s.manifests import (
    OVERLAYS,
    Object,
    config_map,
    named,
    overlay,
    pod_of,
    with_component,
)
from tests.k8s.policy import RULES

pytestmark = pytest.mark.compat


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_keeps_a_rule(name: str, rule: str) -> None:
    assert list(RULES[rule](overlay(name))) == []


def test_a_cpu_autoscaler_owns_the_size_of_its_workload(tmp_path: Path) -> None:
    found = with_component("autoscale-cpu", tmp_path)
    assert list(RULES["sizes_have_one_owner"](found)) == []


Break = Callable[[list[Object]], None]


def _container(found: list[Object], name: str = "secondpass") -> Object:
    container: Object = pod_of(named(found, "Deployment", name))["containers"][0]
    return container


def _set(path: str, value: Any, name: str = "secondpass", kind: str = "Deployment") -> Break:
    """Set a field of an object; a part of the path is a key or an index, `pod` and `box` are short for the usual ones."""

    def apply(found: list[Object]) -> None:
        part: Any = named(found, kind, name)
        *parts, last = (
            path.replace("box", "pod.containers.0").replace("pod", "spec.template.spec").split(".")
        )
        for key in parts:
            part = part[int(key)] if isinstance(part, list) else part.setdefault(key, {})
        if value is None:
            del part[last]
        else:
            part[last] = value

    return apply


def _variable(key: str, value: str, name: str = "secondpass") -> Break:
    def apply(found: list[Object]) -> None:
        next(one for one in _container(found, name)["env"] if one["name"] == key)["value"] = value

    return apply


def _settings(old: str, new: str) -> Break:
    def apply(found: list[Object]) -> None:
        data = config_map(found)["data"]
        assert old in data["secondpass.toml"]
        data["secondpass.toml"] = data["secondpass.toml"].replace(old, new)

    return apply


def _without(kind: str, name: str) -> Break:
    return lambda found: found.remove(named(found, kind, name))


def _twice(kind: str, name: str, copied_as: str) -> Break:
    def apply(found: list[Object]) -> None:
        found.append(copy.deepcopy(named(found, kind, name)) | {"kind": copied_as})

    return apply


def _no_drain(found: list[Object]) -> None:
    arguments = _container(found, "vllm")["args"]
    arguments.remove("--shutdown-timeout=$(SHUTDOWN_TIMEOUT)")


def _no_hash(found: list[Object]) -> None:
    config_map(found)["metadata"]["name"] = "secondpass-config"


def _other_model(found: list[Object]) -> None:
    _container(found, "vllm")["args"][0] = "another/model"


def _drop_mount(path: str, name: str) -> Break:
    def apply(found: list[Object]) -> None:
        pod = pod_of(named(found, "Deployment", name))
        mounts = pod["containers"][0]["volumeMounts"]
        gone = next(one for one in mounts if one["mountPath"] == path)
        mounts.remove(gone)
        pod["volumes"] = [one for one in pod["volumes"] if one["name"] != gone["name"]]

    return apply


ROOT_USER = _set("pod.securityContext.runAsNonRoot", value=False)
ESCALATES = _set("box.securityContext.allowPrivilegeEscalation", value=True)
WRITABLE = _set("box.securityContext.readOnlyRootFilesystem", value=False)
TOKEN = _set("pod.automountServiceAccountToken", value=True)
NO_TOKEN = _set("pod.automountServiceAccountToken", value=False, name="vllm-router")
LINKS = _set("pod.enableServiceLinks", value=True)

BROKEN: list[tuple[str, str, Break]] = [
    ("workloads_are_deployments", "kind", _twice("Deployment", "vllm", "StatefulSet")),
    ("pods_are_unprivileged", "root", ROOT_USER),
    ("pods_are_unprivileged", "user", _set("pod.securityContext.runAsUser", None)),
    ("pods_are_unprivileged", "seccomp", _set("pod.securityContext.seccompProfile", {})),
    ("pods_are_unprivileged", "host", _set("pod.hostNetwork", value=True)),
    ("pods_are_unprivileged", "path", _set("pod.volumes.0.hostPath", {})),
    ("containers_have_no_privileges", "escalation", ESCALATES),
    ("containers_have_no_privileges", "writable", WRITABLE),
    (
        "containers_have_no_privileges",
        "capabilities",
        _set("box.securityContext.capabilities.add", ["NET_ADMIN"]),
    ),
    ("containers_have_no_privileges", "override", _set("box.securityContext.runAsUser", 0)),
    ("writable_folders_are_bounded", "tmp", _drop_mount("/tmp", "vllm")),
    ("writable_folders_are_bounded", "unused", _set("box.volumeMounts", [])),
    (
        "writable_folders_are_bounded",
        "size",
        _set("pod.volumes.0.emptyDir", {}),
    ),
    ("engines_have_shared_memory_and_a_cache", "shm", _drop_mount("/dev/shm", "vllm")),
    ("engines_have_shared_memory_and_a_cache", "cache", _drop_mount("/cache", "vllm")),
    ("probes_are_complete", "startup", _set("box.startupProbe", None)),
    ("probes_are_complete", "liveness", _set("box.livenessProbe", None)),
    ("probes_are_complete", "readiness", _set("box.readinessProbe", None)),
    ("probes_are_complete", "slow", _set("box.readinessProbe.periodSeconds", 10)),
    ("probes_are_complete", "fast", _set("box.readinessProbe.periodSeconds", 1)),
    ("probes_are_complete", "port", _set("box.livenessProbe.httpGet.port", "other")),
    ("probes_are_complete", "timeout", _set("box.livenessProbe.timeoutSeconds", 60)),
    ("shutdown_follows_one_number", "short", _set("pod.terminationGracePeriodSeconds", 622)),
    ("shutdown_follows_one_number", "none", _set("pod.terminationGracePeriodSeconds", None)),
    ("shutdown_follows_one_number", "differs", _set("pod.terminationGracePeriodSeconds", 700)),
    ("shutdown_follows_one_number", "longer", _settings("ms = 600000", "ms = 640000")),
    ("shutdown_follows_one_number", "copy", _variable("SECONDPASS_SHUTDOWN_GRACE_SECONDS", "20")),
    ("shutdown_follows_one_number", "vllm's copy", _variable("SHUTDOWN_TIMEOUT", "20", "vllm")),
    ("shutdown_follows_one_number", "vllm", _no_drain),
    ("shutdown_follows_one_number", "preStop", _set("box.lifecycle", {})),
    ("resources_are_bounded", "requests", _set("box.resources.requests.memory", None)),
    ("resources_are_bounded", "limit", _set("box.resources.limits", {})),
    ("resources_are_bounded", "cpu", _set("box.resources.limits.cpu", "1")),
    ("resources_are_bounded", "gpu", _set("box.resources.limits", {"memory": "1Gi"}, name="vllm")),
    ("tokens_are_mounted_only_where_needed", "pod", TOKEN),
    ("tokens_are_mounted_only_where_needed", "missing", NO_TOKEN),
    (
        "tokens_are_mounted_only_where_needed",
        "account",
        _set("automountServiceAccountToken", value=True, kind="ServiceAccount"),
    ),
    ("tokens_are_mounted_only_where_needed", "unbound", _without("RoleBinding", "vllm-router")),
    ("tokens_are_mounted_only_where_needed", "absent", _set("pod.serviceAccountName", "other")),
    ("service_links_are_off", "links", LINKS),
    ("sizes_have_one_owner", "both", _set("spec.replicas", 2)),
    (
        "sizes_have_one_owner",
        "two",
        _twice("ScaledObject", "secondpass", "HorizontalPodAutoscaler"),
    ),
    ("sizes_have_one_owner", "none", _without("ScaledObject", "secondpass")),
    (
        "sizes_have_one_owner",
        "target",
        _set("spec.scaleTargetRef.name", "other", kind="ScaledObject"),
    ),
    ("replicas_says_how_many_pods_run", "one", _settings('"many"', '"one"')),
    ("selectors_match", "all", _set("spec.selector", {"app.kubernetes.io/name": "secondpass"})),
    ("selectors_match", "budget", _without("PodDisruptionBudget", "vllm")),
    (
        "selectors_match",
        "nothing",
        _set("spec.selector.matchLabels", {"app": "other"}, kind="PodDisruptionBudget"),
    ),
    ("selectors_match", "policy", _without("NetworkPolicy", "vllm-router")),
    ("selectors_match", "egress", _set("spec.policyTypes", ["Ingress"], kind="NetworkPolicy")),
    ("services_reach_their_pods", "port", _set("spec.ports.0.targetPort", "web", kind="Service")),
    ("services_reach_their_pods", "pods", _set("spec.selector", {"app": "other"}, kind="Service")),
    (
        "services_reach_their_pods",
        "policy",
        _set("spec.ingress", [], name="vllm-router", kind="NetworkPolicy"),
    ),
    ("engines_are_reached", "service", _without("Service", "vllm-router")),
    ("engines_are_reached", "port", _settings("vllm-router:8000", "vllm-router:9000")),
    ("engines_are_reached", "model", _other_model),
    (
        "calls_have_sessions_before_a_hashing_router",
        "votes",
        _settings('votes = "split"', 'votes = "none"'),
    ),
    (
        "calls_have_sessions_before_a_hashing_router",
        "forwards",
        _settings('forwards = "opening"', 'forwards = "none"'),
    ),
    ("routes_have_no_timeout", "none", _set("spec.rules.0.timeouts", None, kind="HTTPRoute")),
    (
        "routes_have_no_timeout",
        "some",
        _set("spec.rules.0.timeouts.request", "15s", kind="HTTPRoute"),
    ),
    ("routes_have_no_timeout", "service", _without("Service", "secondpass")),
    ("images_are_of_one_version", "latest", _set("box.image", "secondpass:latest")),
    ("images_are_of_one_version", "none", _set("box.image", "example.com:5000/secondpass")),
    ("a_changed_setting_rolls_the_pods", "hash", _no_hash),
    ("a_changed_setting_rolls_the_pods", "path", _variable("SECONDPASS_CONFIG", "/etc/other")),
]


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
