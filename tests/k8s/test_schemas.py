"""Every overlay and component renders, and its objects match the schemas of Kubernetes."""

from pathlib import Path

import pytest
import yaml

from tests.k8s.manifests import COMPONENTS, K8S, OVERLAYS, Object, render_component, render_overlay
from tests.k8s.tools import kubernetes_validate, run

pytestmark = pytest.mark.compat

# Groups of custom resources; test_custom_resources.py checks them.
CUSTOM = {"monitoring.coreos.com", "keda.sh", "gateway.networking.k8s.io"}


def _validate(objects: list[Object], scratch: Path) -> None:
    """Validate the built-in objects. Raises AssertionError for unknown fields and wrong types."""
    core = [one for one in objects if one["apiVersion"].split("/")[0] not in CUSTOM]
    assert core
    path = scratch / "objects.yaml"
    path.write_text(yaml.safe_dump_all(core))
    printed = run(kubernetes_validate(), "--strict", "--kubernetes-version", "1.34", path)
    # A missing schema is only a warning, so count the objects that passed.
    assert printed.count("passed for resource") == len(core), printed


def test_all_overlays_and_components_are_listed() -> None:
    for folder, names in (("overlays", OVERLAYS), ("components", COMPONENTS)):
        assert sorted(path.name for path in (K8S / folder).iterdir()) == list(names)


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_matches_the_kubernetes_schemas(name: str, tmp_path: Path) -> None:
    _validate(render_overlay(name), tmp_path)


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_on_the_base_matches_the_kubernetes_schemas(name: str, tmp_path: Path) -> None:
    objects = render_component(name, tmp_path)
    assert {one["metadata"].get("namespace") for one in objects} == {"trial"}
    _validate(objects, tmp_path)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", ("spec", "template", "spec", "terminationGracePeriodSecond")),
        ("Service", ("spec", "selectors")),
        ("PodDisruptionBudget", ("spec", "maxUnavailables")),
        ("NetworkPolicy", ("spec", "ingresses")),
    ],
)
def test_misspelt_field_is_reported(kind: str, path: tuple[str, ...], tmp_path: Path) -> None:
    objects = render_overlay("split")
    part = next(one for one in objects if one["kind"] == kind)
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = {}
    with pytest.raises(AssertionError, match=path[-1]):
        _validate(objects, tmp_path)
