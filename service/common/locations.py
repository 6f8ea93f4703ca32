"""Paths of validation errors in a request, without pydantic's names of union branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from secondpass.strategies.api.params import Params


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a request.

    Attributes:
        path: Names and 0-based positions.
        fields: Names of the fields of the object at `path`; empty if no object with fixed fields is there.
        siblings: As `fields`, of the object that contains the last part of `path`.
    """

    path: tuple[str, ...]
    fields: tuple[str, ...]
    siblings: tuple[str, ...]


def locate(model: type[BaseModel], location: Sequence[int | str]) -> Location:
    """Return the place of an error in `model` that pydantic reports at `location`."""
    path: list[str] = []
    kind, parent, rest = model, None, list(location)
    while rest:
        part = rest.pop(0)
        if part != "[key]":  # else the previous part is the invalid key
            path.append(str(part))
            parent, kind = kind, _branch(_member(kind, part), rest)
    return Location(tuple(path), tuple(_fields(kind)), tuple(_fields(parent)))


def _branch(kind: Any, rest: list[int | str]) -> Any:
    """Return the type inside unions and annotations; remove the names of branches from `rest`."""
    discriminator: str | None = None
    while True:
        if isinstance(kind, FieldInfo):
            discriminator = _discriminator(kind) or discriminator
            kind = kind.annotation
        elif get_origin(kind) is Annotated:
            kind, *metadata = get_args(kind)
            discriminator = next(filter(None, map(_discriminator, metadata)), discriminator)
        elif get_origin(kind) in (Union, UnionType):
            branches = [each for each in get_args(kind) if each is not NoneType]
            if len(branches) > 1:
                if not rest:
                    return Any
                name = str(rest.pop(0))
                branches = [b for b in branches if _is_named(b, name, discriminator)] or [Any]
            kind, discriminator = branches[0], None
        else:
            return kind


def _discriminator(metadata: Any) -> str | None:
    """Return the name of the field that selects the branch of a union, if metadata names one."""
    found = getattr(metadata, "discriminator", None)
    return found if isinstance(found, str) else None


def _is_named(branch: Any, name: str, discriminator: str | None) -> bool:
    """Return whether pydantic calls this branch of a union `name`."""
    while get_origin(branch) is Annotated:
        branch, *metadata = get_args(branch)
        if tags := [each.tag for each in metadata if isinstance(each, Tag)]:
            return name in tags
    if discriminator is not None:
        field = _fields(branch).get(discriminator)
        return field is not None and name in map(str, get_args(field.annotation))
    origin = get_origin(branch)
    own = getattr(origin or branch, "__name__", "")
    return name == own or (origin is not None and name.startswith(f"{own}["))


def _member(kind: Any, part: int | str) -> Any:
    """Return the type of a member of `kind`; Any if it is unknown."""
    if isinstance(part, str) and part in (fields := _fields(kind)):
        return fields[part]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (tuple, list) and arguments:
        return arguments[0]
    return arguments[1] if origin in (dict, Mapping) and arguments else Any


def _fields(kind: Any) -> Mapping[str, FieldInfo]:
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return {}
    return kind.all_fields() if issubclass(kind, Params) else kind.model_fields
