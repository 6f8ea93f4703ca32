"""An autoscaler owns the replica count of its workload, even on an overlay that sets `replicas`."""

from pathlib import Path

import pytest
import yaml

from tests.k8s.manifests import (
    Object,
    find_object,
    kustomize_build,
    parse_manifest,
    render_overlay,
    render_own_overlay,
)
from tests.k8s.policy.all_rules import RULES

pytestmark = pytest.mark.compat

AUTOSCALERS = ("autoscale-cpu", "keda")


def _replicas(objects: list[Object]) -> list[int | None]:
    names = ("secondpass", "vllm")
    return [find_object(objects, "Deployment", name)["spec"].get("replicas") for name in names]


@pytest.mark.parametrize("component", AUTOSCALERS)
def test_autoscaler_removes_replicas_of_its_workload(component: str, tmp_path: Path) -> None:
    assert _replicas(render_overlay("split")) == [2, 2]
    objects = render_own_overlay("overlays/split", tmp_path, components=[component])
    assert _replicas(objects) == [None, 2]
    for rule in ("replicas_have_one_owner", "autoscalers_keep_two_pods"):
        assert list(RULES[rule](objects)) == []


@pytest.mark.parametrize("component", AUTOSCALERS)
def test_policy_rejects_replicas_with_two_owners_without_the_patch(
    component: str, tmp_path: Path
) -> None:
    render_own_overlay("overlays/split", tmp_path, components=[component])
    path = tmp_path / f"k8s/components/{component}/kustomization.yaml"
    kustomization = yaml.safe_load(path.read_text())
    del kustomization["patches"]
    path.write_text(yaml.safe_dump(kustomization))
    objects = parse_manifest(kustomize_build(tmp_path / "own"))
    assert _replicas(objects) == [2, 2]
    assert list(RULES["replicas_have_one_owner"](objects)) != []
