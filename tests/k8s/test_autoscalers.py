"""An autoscaler owns the size of its workload, also where the overlay below it has fixed sizes."""

from pathlib import Path

import pytest
import yaml

from tests.k8s.manifests import Object, built, named, objects, on_top_of, overlay
from tests.k8s.policy.every import RULES

pytestmark = pytest.mark.compat

AUTOSCALERS = ("autoscale-cpu", "keda")


def _sizes(found: list[Object]) -> list[int | None]:
    names = ("secondpass", "vllm")
    return [named(found, "Deployment", name)["spec"].get("replicas") for name in names]


@pytest.mark.parametrize("component", AUTOSCALERS)
def test_an_autoscaler_removes_the_fixed_size_of_its_workload(
    component: str, tmp_path: Path
) -> None:
    assert _sizes(overlay("split")) == [2, 2]
    found = on_top_of("overlays/split", tmp_path, components=[component])
    assert _sizes(found) == [None, 2]
    for rule in ("sizes_have_one_owner", "autoscalers_keep_two_pods"):
        assert list(RULES[rule](found)) == []


@pytest.mark.parametrize("component", AUTOSCALERS)
def test_without_its_patch_a_size_would_have_two_owners(component: str, tmp_path: Path) -> None:
    on_top_of("overlays/split", tmp_path, components=[component])
    path = tmp_path / f"k8s/components/{component}/kustomization.yaml"
    kustomization = yaml.safe_load(path.read_text())
    del kustomization["patches"]
    path.write_text(yaml.safe_dump(kustomization))
    found = objects(built(tmp_path / "own"))
    assert _sizes(found) == [2, 2]
    assert list(RULES["sizes_have_one_owner"](found)) != []
