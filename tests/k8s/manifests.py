"""Overlays and components of k8s/ as kubectl renders them, and accessors for their objects."""

import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.k8s.tools import ROOT, kubectl, run

K8S = ROOT / "k8s"
OVERLAYS = ("all-in-one", "cpu-demo", "example", "prod", "split")
COMPONENTS = ("autoscale-cpu", "gateway", "gpu-engine", "keda", "monitoring", "router")
CONFIG_MAP = "secondpass-config"

Object = dict[str, Any]


def kustomize_build(folder: Path) -> str:
    """Output of `kubectl kustomize` for a folder. Raises AssertionError with its messages."""
    return run(kubectl(), "kustomize", folder, seconds=60)


def parse_manifest(text: str) -> list[Object]:
    """Parse the objects of a rendered manifest."""
    return [one for one in yaml.safe_load_all(text) if one is not None]


@cache
def _rendered(name: str) -> list[Object]:
    return parse_manifest(kustomize_build(K8S / "overlays" / name))


def render_overlay(name: str) -> list[Object]:
    """Objects of an overlay, as a copy that the caller may change."""
    return deepcopy(_rendered(name))


def render_component(name: str, scratch: Path) -> list[Object]:
    """Objects of the base with one component."""
    return render_own_overlay("base", scratch, components=[name], namespace="trial")


def render_own_overlay(
    folder: str, scratch: Path, *, components: Sequence[str] = (), **fields: Any
) -> list[Object]:
    """Objects of an operator's overlay on top of a folder of k8s/.

    `components` are those of k8s/, and `fields` are added to the kustomization.
    """
    shutil.copytree(K8S, scratch / "k8s")
    (scratch / "own").mkdir()
    kustomization = {
        "resources": [f"../k8s/{folder}"],
        "components": [f"../k8s/components/{name}" for name in components],
        **fields,
    }
    (scratch / "own/kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return parse_manifest(kustomize_build(scratch / "own"))


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    """Objects of the given kinds."""
    return [one for one in objects if one["kind"] in kinds]


def find_object(objects: Sequence[Object], kind: str, name: str) -> Object:
    """Object of the given kind and name. Raises StopIteration if it is missing."""
    return next(one for one in of_kind(objects, kind) if one["metadata"]["name"] == name)


def pod_spec(workload: Object) -> Object:
    """Pod spec of a workload."""
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def pod_labels(workload: Object) -> Mapping[str, str]:
    """Pod labels of a workload."""
    labels: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def containers(workload: Object) -> Iterator[tuple[str, Object]]:
    """Each container of a workload, init containers first, with a name for messages."""
    pod = pod_spec(workload)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        yield f"{workload['metadata']['name']}/{container['name']}", container


def env_values(container: Object) -> dict[str, str]:
    """Environment variables of a container whose value is in the manifest."""
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


def config_map(objects: Sequence[Object]) -> Object:
    """Generated ConfigMap with the settings file."""
    maps = of_kind(objects, "ConfigMap")
    return next(one for one in maps if one["metadata"]["name"].startswith(CONFIG_MAP))


def settings_text(objects: Sequence[Object]) -> str:
    """Text of the settings file."""
    text: str = config_map(objects)["data"]["secondpass.toml"]
    return text


def settings_values(objects: Sequence[Object]) -> dict[str, Any]:
    """Parsed settings file."""
    return tomllib.loads(settings_text(objects))


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector, or a plain map of labels, matches `labels`."""
    plain = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
    return all(labels.get(key) == value for key, value in plain.items()) and all(
        _matches(one, labels) for one in selector.get("matchExpressions", [])
    )


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    results: dict[str, bool] = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    return results[expression["operator"]]


def max_pods(objects: Sequence[Object], name: str = "secondpass") -> int:
    """Largest number of pods that a Deployment or its autoscaler can run."""
    scalers: list[int] = [
        one["spec"].get("maxReplicas") or one["spec"].get("maxReplicaCount", 100)
        for one in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
        if one["spec"]["scaleTargetRef"]["name"] == name
    ]
    replicas: int = find_object(objects, "Deployment", name)["spec"].get("replicas", 1)
    return max([replicas, *scalers])
