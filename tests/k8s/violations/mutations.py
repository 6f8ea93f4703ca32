"""Mutations of a rendered overlay that violate a rule."""

import copy
from collections.abc import Callable
from typing import Any

from tests.k8s.manifests import Object, config_map, find_object, pod_spec

Violation = tuple[str, str, "Mutation"]
"""Name of a rule, name of the violation, and the mutation that causes it."""

Mutation = Callable[[list[Object]], None]


SHORTHANDS = {
    "pod": ["spec", "template", "spec"],
    "container": ["spec", "template", "spec", "containers", "0"],
}


def first_container(objects: list[Object], name: str = "secondpass") -> Object:
    """First container of a Deployment."""
    container: Object = pod_spec(find_object(objects, "Deployment", name))["containers"][0]
    return container


def set_field(
    path: str, value: Any, name: str = "secondpass", kind: str = "Deployment"
) -> Mutation:
    """Set a field, or delete it with None, by its dotted path of keys and indexes.

    A leading `pod` or `container` is short for the pod spec or its first container.
    """

    def apply(objects: list[Object]) -> None:
        part: Any = find_object(objects, kind, name)
        first, *rest = path.split(".")
        *keys, last = [*SHORTHANDS.get(first, [first]), *rest]
        for key in keys:
            part = part[int(key)] if isinstance(part, list) else part.setdefault(key, {})
        leaf = int(last) if isinstance(part, list) else last
        if value is None:
            del part[leaf]
        else:
            part[leaf] = value

    return apply


def set_env(key: str, value: str, name: str = "secondpass") -> Mutation:
    """Change the value of an environment variable."""

    def apply(objects: list[Object]) -> None:
        env = first_container(objects, name)["env"]
        next(one for one in env if one["name"] == key)["value"] = value

    return apply


def replace_argument(name: str, old: str, new: str | None) -> Mutation:
    """Replace an argument of a container, or remove it with None."""

    def apply(objects: list[Object]) -> None:
        arguments = first_container(objects, name)["args"]
        index = arguments.index(old)
        arguments[index : index + 1] = [] if new is None else [new]

    return apply


def replace_in_settings(old: str, new: str) -> Mutation:
    """Replace text in the settings file."""

    def apply(objects: list[Object]) -> None:
        data = config_map(objects)["data"]
        assert old in data["secondpass.toml"]
        data["secondpass.toml"] = data["secondpass.toml"].replace(old, new)

    return apply


def remove_object(kind: str, name: str) -> Mutation:
    """Remove an object."""
    return lambda objects: objects.remove(find_object(objects, kind, name))


def duplicate_object(kind: str, name: str, copied_as: str) -> Mutation:
    """Add a copy of an object under another kind."""

    def apply(objects: list[Object]) -> None:
        objects.append(copy.deepcopy(find_object(objects, kind, name)) | {"kind": copied_as})

    return apply


def remove_mount(path: str, name: str) -> Mutation:
    """Remove a volume and its mount."""

    def apply(objects: list[Object]) -> None:
        pod = pod_spec(find_object(objects, "Deployment", name))
        mounts = pod["containers"][0]["volumeMounts"]
        mount = next(one for one in mounts if one["mountPath"] == path)
        mounts.remove(mount)
        pod["volumes"] = [one for one in pod["volumes"] if one["name"] != mount["name"]]

    return apply
