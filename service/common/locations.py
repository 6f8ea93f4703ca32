"""Paths and messages of validation errors, without pydantic's names of union branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from secondpass.service.common.errors import excerpt
from secondpass.service.common.validation import message, message_with_value, unknown_name
from secondpass.strategies.api.params import Params

MAX_ERRORS = 256
"""Maximum errors of a request that are examined for the one to report."""

_RULE = "must be "


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


def explain(error: ValidationError, model: type[BaseModel]) -> tuple[tuple[str, ...], str]:
    """Return the path and the message of the error with the deepest path, of the first `MAX_ERRORS`.

    For a union, that error is in the branch that was meant. Errors of several branches are joined.
    """
    first = error.errors(include_url=False)[:MAX_ERRORS]
    located = [_located(details, model) for details in first]
    deepest = max((path for path, _ in located), key=len)
    return deepest, _joined([message for path, message in located if path == deepest])


def _located(details: ErrorDetails, model: type[BaseModel]) -> tuple[tuple[str, ...], str]:
    """Return the path and the message of an error.

    The message of a validator of several fields begins with the name of the invalid one.
    """
    place = locate(model, details["loc"])
    path, kind = place.path, details["type"]
    if kind == "extra_forbidden":
        return path, unknown_name(path[-1], place.siblings, "field")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        context = details["ctx"]
        field, tags = context["discriminator"].strip("'"), context.get("expected_tags")
        return (*path, field), "is missing" if tags is None else f"must be one of {tags}"
    if details["loc"][-1:] == ("[key]",):  # the value is the key, which the path contains
        return path, excerpt(message(details))
    text = excerpt(message_with_value(details))
    name = text.partition(":")[0]
    is_named = kind == "value_error" and name in place.fields
    return (*path, name) if is_named else path, text


def _joined(messages: Sequence[str]) -> str:
    """Join the messages of the branches of a union, for example "must be a string or a list, not 5"."""
    distinct = list(dict.fromkeys(messages))
    if rules := [each for each in distinct if not each.startswith(_RULE)]:
        return rules[0]
    *others, last = (each.removeprefix(_RULE) for each in distinct)
    return _RULE + " or ".join((*(each.partition(", not ")[0] for each in others), last))


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
