"""The overlays and components of k8s/ as kubectl renders them, and short ways to read the objects."""

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
    """What `kubectl kustomize` prints for a folder. Fails with its message."""
    return run(kubectl(), "kustomize", folder, seconds=60)


def parse_manifest(text: str) -> list[Object]:
    """The objects of a rendered manifest."""
    return [one for one in yaml.safe_load_all(text) if one is not None]


@cache
def _rendered(name: str) -> list[Object]:
    return parse_manifest(kustomize_build(K8S / "overlays" / name))


def render_overlay(name: str) -> list[Object]:
    """The objects of an overlay; the caller may change them."""
    return deepcopy(_rendered(name))


def render_component(name: str, scratch: Path) -> list[Object]:
    """The objects of the base with one component."""
    return render_own_overlay("base", scratch, components=[name], namespace="trial")


def render_own_overlay(
    folder: str, scratch: Path, *, components: Sequence[str] = (), **fields: Any
) -> list[Object]:
    """The objects of an operator's overlay: a folder of k8s/ below it, components, and further fields of its kustomization."""
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
    """The objects of these kinds."""
    return [one for one in objects if one["kind"] in kinds]


def find_object(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The object of this kind and name. Fails where there is none."""
    return next(one for one in of_kind(objects, kind) if one["metadata"]["name"] == name)


def pod_spec(workload: Object) -> Object:
    """The pod's spec of a Deployment."""
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def pod_labels(workload: Object) -> Mapping[str, str]:
    """The labels of a Deployment's pods."""
    labels: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def containers(workload: Object) -> Iterator[tuple[str, Object]]:
    """Each container of a Deployment, with a name for messages."""
    pod = pod_spec(workload)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        yield f"{workload['metadata']['name']}/{container['name']}", container


def env_values(container: Object) -> dict[str, str]:
    """The environment variables of a container that have a value in the manifest."""
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


def config_map(objects: Sequence[Object]) -> Object:
    """The generated ConfigMap with the settings."""
    maps = of_kind(objects, "ConfigMap")
    return next(one for one in maps if one["metadata"]["name"].startswith(CONFIG_MAP))


def settings_text(objects: Sequence[Object]) -> str:
    """The file of settings."""
    text: str = config_map(objects)["data"]["secondpass.toml"]
    return text


def settings_values(objects: Sequence[Object]) -> dict[str, Any]:
    """What the file of settings sets."""
    return tomllib.loads(settings_text(objects))


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector, or a plain map of labels, matches."""
    plain = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
    return all(labels.get(key) == value for key, value in plain.items()) and all(
        _holds(one, labels) for one in selector.get("matchExpressions", [])
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    holds: dict[str, bool] = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    return holds[expression["operator"]]


def max_pods(objects: Sequence[Object], name: str = "secondpass") -> int:
    """The largest number of pods of a Deployment that can run."""
    scalers: list[int] = [
        one["spec"].get("maxReplicas") or one["spec"].get("maxReplicaCount", 100)
        for one in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
        if one["spec"]["scaleTargetRef"]["name"] == name
    ]
    replicas: int = find_object(objects, "Deployment", name)["spec"].get("replicas", 1)
    return max([replicas, *scalers])
