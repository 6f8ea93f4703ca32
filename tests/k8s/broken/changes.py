"""Ways to break a rendered overlay."""

import copy
from collections.abc import Callable
from typing import Any

from tests.k8s.manifests import Object, config_map, named, pod_of

Broken = tuple[str, str, "Break"]
"""A rule, what is broken, and how."""

Break = Callable[[list[Object]], None]


SHORT = {
    "pod": ["spec", "template", "spec"],
    "box": ["spec", "template", "spec", "containers", "0"],
}


def container_of(found: list[Object], name: str = "secondpass") -> Object:
    """The first container of a Deployment."""
    container: Object = pod_of(named(found, "Deployment", name))["containers"][0]
    return container


def set_field(path: str, value: Any, name: str = "secondpass", kind: str = "Deployment") -> Break:
    """Set a field of an object by its keys and indexes. `pod` and `box`, at the start, are short for the usual ones."""

    def apply(found: list[Object]) -> None:
        part: Any = named(found, kind, name)
        first, *rest = path.split(".")
        *keys, last = [*SHORT.get(first, [first]), *rest]
        for key in keys:
            part = part[int(key)] if isinstance(part, list) else part.setdefault(key, {})
        place = int(last) if isinstance(part, list) else last
        if value is None:
            del part[place]
        else:
            part[place] = value

    return apply


def set_variable(key: str, value: str, name: str = "secondpass") -> Break:
    """Give a variable of a container another value."""

    def apply(found: list[Object]) -> None:
        next(one for one in container_of(found, name)["env"] if one["name"] == key)["value"] = value

    return apply


def edit_argument(name: str, old: str, new: str | None) -> Break:
    """Replace or remove an argument of a container."""

    def apply(found: list[Object]) -> None:
        arguments = container_of(found, name)["args"]
        place = arguments.index(old)
        arguments[place : place + 1] = [] if new is None else [new]

    return apply


def edit_settings(old: str, new: str) -> Break:
    """Replace text in the file of settings."""

    def apply(found: list[Object]) -> None:
        data = config_map(found)["data"]
        assert old in data["secondpass.toml"]
        data["secondpass.toml"] = data["secondpass.toml"].replace(old, new)

    return apply


def without(kind: str, name: str) -> Break:
    """Remove an object."""
    return lambda found: found.remove(named(found, kind, name))


def twice(kind: str, name: str, copied_as: str) -> Break:
    """Add a copy of an object under another kind."""

    def apply(found: list[Object]) -> None:
        found.append(copy.deepcopy(named(found, kind, name)) | {"kind": copied_as})

    return apply


def drop_mount(path: str, name: str) -> Break:
    """Remove a volume and its mount."""

    def apply(found: list[Object]) -> None:
        pod = pod_of(named(found, "Deployment", name))
        mounts = pod["containers"][0]["volumeMounts"]
        gone = next(one for one in mounts if one["mountPath"] == path)
        mounts.remove(gone)
        pod["volumes"] = [one for one in pod["volumes"] if one["name"] != gone["name"]]

    return apply
