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


def built(folder: Path) -> str:
    """What `kubectl kustomize` prints for a folder. Fails with its message."""
    return run(kubectl(), "kustomize", folder, seconds=60)


def objects(text: str) -> list[Object]:
    """The objects of a rendered manifest."""
    return [found for found in yaml.safe_load_all(text) if found is not None]


@cache
def _rendered(name: str) -> list[Object]:
    return objects(built(K8S / "overlays" / name))


def overlay(name: str) -> list[Object]:
    """The objects of an overlay; the caller may change them."""
    return deepcopy(_rendered(name))


def with_component(name: str, scratch: Path) -> list[Object]:
    """The objects of the base with one component."""
    return on_top_of("base", scratch, components=[name], namespace="trial")


def on_top_of(
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
    return objects(built(scratch / "own"))


def of_kind(found: Sequence[Object], *kinds: str) -> list[Object]:
    """The objects of these kinds."""
    return [one for one in found if one["kind"] in kinds]


def named(found: Sequence[Object], kind: str, name: str) -> Object:
    """The object of this kind and name. Fails where there is none."""
    return next(one for one in of_kind(found, kind) if one["metadata"]["name"] == name)


def pod_of(workload: Object) -> Object:
    """The pod's spec of a Deployment."""
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def labels_of(workload: Object) -> Mapping[str, str]:
    """The labels of a Deployment's pods."""
    labels: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def containers(workload: Object) -> Iterator[tuple[str, Object]]:
    """Each container of a Deployment, with a name for messages."""
    pod = pod_of(workload)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        yield f"{workload['metadata']['name']}/{container['name']}", container


def variables(container: Object) -> dict[str, str]:
    """The environment variables of a container that have a value in the manifest."""
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


def config_map(found: Sequence[Object]) -> Object:
    """The generated ConfigMap with the settings."""
    maps = of_kind(found, "ConfigMap")
    return next(one for one in maps if one["metadata"]["name"].startswith(CONFIG_MAP))


def settings_text(found: Sequence[Object]) -> str:
    """The file of settings."""
    text: str = config_map(found)["data"]["secondpass.toml"]
    return text


def settings_values(found: Sequence[Object]) -> dict[str, Any]:
    """What the file of settings sets."""
    return tomllib.loads(settings_text(found))


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


def most_pods(found: Sequence[Object], name: str = "secondpass") -> int:
    """The largest number of pods of a Deployment that can run."""
    scalers: list[int] = [
        one["spec"].get("maxReplicas") or one["spec"].get("maxReplicaCount", 100)
        for one in of_kind(found, "HorizontalPodAutoscaler", "ScaledObject")
        if one["spec"]["scaleTargetRef"]["name"] == name
    ]
    replicas: int = named(found, "Deployment", name)["spec"].get("replicas", 1)
    return max([replicas, *scalers])
