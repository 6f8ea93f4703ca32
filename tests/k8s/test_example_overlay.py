"""The overlay `example`: all its values take effect, and no site-specific default remains."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.manifests import (
    K8S,
    containers,
    find_object,
    of_kind,
    pod_spec,
    render_overlay,
    render_own_overlay,
    settings_values,
)
from tests.k8s.policy.all_rules import RULES
from tests.k8s.policy.connectivity import EXTERNAL, allows_egress, is_external

pytestmark = pytest.mark.compat

EXAMPLE = K8S / "overlays/example"


def _kustomization() -> Any:
    return yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())


def test_site_specific_defaults_are_replaced() -> None:
    text = yaml.safe_dump_all(render_overlay("example"))
    settings = (EXAMPLE / "secondpass.toml").read_text()
    defaults = (
        "gateway-system",
        ": monitoring\n",
        "monitoring.svc",
        "secondpass.example.com",
        "Qwen3-8B",
    )
    for name in defaults:
        assert name in yaml.safe_dump_all(render_overlay("prod"))
        assert name not in text + settings
    spaces = {one["metadata"]["namespace"] for one in render_overlay("example")}
    assert spaces == {_kustomization()["namespace"]}


def test_patches_are_json_patches_with_a_change() -> None:
    for patch in _kustomization()["patches"]:
        operations = yaml.safe_load(patch["patch"])
        assert {one["op"] for one in operations} <= {"test", "replace", "add"}
        assert {"replace", "add"} & {one["op"] for one in operations}


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("Deployment", "vllm", "spec.template.spec.containers.0.args"),
        ("NetworkPolicy", "secondpass", "spec.egress"),
    ],
)
def test_merge_patch_replaces_a_whole_list(kind: str, name: str, path: str, tmp_path: Path) -> None:
    added: dict[str, Any] = {
        "Deployment": {"template": {"spec": {"containers": [{"name": "vllm", "args": ["own"]}]}}},
        "NetworkPolicy": {"egress": [{"ports": [{"port": 443}]}]},
    }
    groups = {"Deployment": "apps/v1", "NetworkPolicy": "networking.k8s.io/v1"}
    merged = {"apiVersion": groups[kind], "kind": kind, "metadata": {"name": name}}
    patch = {"patch": yaml.safe_dump(merged | {"spec": added[kind]})}
    part: Any = find_object(
        render_own_overlay("overlays/prod", tmp_path, patches=[patch]), kind, name
    )
    for key in path.split("."):
        part = part[int(key)] if isinstance(part, list) else part[key]
    assert len(part) == 1


def test_gpu_limit_equals_tensor_parallel_size() -> None:
    workload = find_object(render_overlay("example"), "Deployment", "vllm")
    ((_, container),) = containers(workload)
    assert workload["spec"]["replicas"] == 4
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--tensor-parallel-size={gpus}" in container["args"]
    # The arguments of the component are kept.
    inherited = next(containers(find_object(render_overlay("prod"), "Deployment", "vllm")))[1][
        "args"
    ][1:]
    assert set(inherited) < set(container["args"])


def test_grace_periods_follow_the_deadline_of_20_minutes() -> None:
    objects = render_overlay("example")
    assert settings_values(objects)["max_deadline_ms"] == 20 * 60 * 1000
    graces = [
        pod_spec(one)["terminationGracePeriodSeconds"] for one in of_kind(objects, "Deployment")
    ]
    assert graces == [1260, 1260, 1260]
    assert list(RULES["grace_periods_are_consistent"](objects)) == []


def test_call_limits_of_all_pods_equal_engine_capacity() -> None:
    objects = render_overlay("example")
    pods = find_object(objects, "ScaledObject", "secondpass")["spec"]["maxReplicaCount"]
    engines = find_object(objects, "Deployment", "vllm")["spec"]["replicas"]
    assert pods * settings_values(objects)["max_concurrent_calls"] == engines * 256


def test_external_judge_adds_egress_to_its_port_only() -> None:
    objects = render_overlay("example")
    values = settings_values(objects)
    assert is_external(values["engines"][values["roles"]["judge"]]["url"])
    source = find_object(objects, "Deployment", "secondpass")
    assert allows_egress(objects, source, EXTERNAL, 443)
    assert not allows_egress(objects, source, EXTERNAL, 80)
    assert list(RULES["orchestrators_reach_their_engines"](objects)) == []
    without = [one for one in objects if one["metadata"]["name"] != "secondpass-judge"]
    assert list(RULES["orchestrators_reach_their_engines"](without)) != []
