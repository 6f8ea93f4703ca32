"""Every overlay and component builds, and Kubernetes' own schemas accept each field of what comes out."""

from pathlib import Path

import pytest
import yaml

from tests.k8s.manifests import COMPONENTS, K8S, OVERLAYS, Object, render_component, render_overlay
from tests.k8s.tools import kubernetes_validate, run

pytestmark = pytest.mark.compat

# Groups of custom resources, whose types test_custom_resources.py checks.
CUSTOM = {"monitoring.coreos.com", "keda.sh", "gateway.networking.k8s.io"}


def _validate(objects: list[Object], scratch: Path) -> None:
    """Check the objects of Kubernetes itself. Fails where a field is unknown or has the wrong type."""
    core = [one for one in objects if one["apiVersion"].split("/")[0] not in CUSTOM]
    assert core
    path = scratch / "objects.yaml"
    path.write_text(yaml.safe_dump_all(core))
    printed = run(kubernetes_validate(), "--strict", "--kubernetes-version", "1.34", path)
    # An object without a schema is a warning only, so the passed ones are counted.
    assert printed.count("passed for resource") == len(core), printed


def test_every_folder_of_overlays_and_components_is_tested() -> None:
    for folder, names in (("overlays", OVERLAYS), ("components", COMPONENTS)):
        assert sorted(path.name for path in (K8S / folder).iterdir()) == list(names)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_valid_for_kubernetes(name: str, tmp_path: Path) -> None:
    _validate(render_overlay(name), tmp_path)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_on_the_base_is_valid_for_kubernetes(name: str, tmp_path: Path) -> None:
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
def test_a_misspelt_field_is_reported(kind: str, path: tuple[str, ...], tmp_path: Path) -> None:
    objects = render_overlay("split")
    part = next(one for one in objects if one["kind"] == kind)
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = {}
    with pytest.raises(AssertionError, match=path[-1]):
        _validate(objects, tmp_path)
