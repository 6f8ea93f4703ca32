"""Messages for invalid settings: one line per problem, with the setting and the allowed values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from secondpass.service.common import validation
from secondpass.service.config.sources import unknown
from secondpass.service.config.tables import ENGINE_KINDS, table_of

_SECRET = frozenset(("key_env", "engine_key_env"))
"""Settings that name a secret. They contain the secret itself if it was set by mistake."""


def all_of(checks: Iterable[Callable[[], object]], failure: type[Exception] = ValueError) -> None:
    """Run all checks. Raises one `failure` with the messages of all checks that failed."""
    problems = []
    for check in checks:
        try:
            check()
        except failure as error:
            problems.append(str(error))
    if problems:
        raise failure("\n".join(problems))


def lines(error: ValidationError, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    """Yield one line per problem of settings with these `fields`."""
    for problem in error.errors(include_url=False):
        yield from _line(problem, fields).splitlines()


def _line(problem: ErrorDetails, fields: Mapping[str, FieldInfo]) -> str:
    path = [str(part) for part in problem["loc"]]
    where, kind, given = _place(path), problem["type"], problem["input"]
    message = validation.message(problem)
    if kind == "extra_forbidden":
        about = unknown(path[-1], table_of(path).model_fields)
        return f"{where}: {about}{_belongs_above(path, fields)}"
    if kind == "union_tag_not_found":
        return f"{where}.kind is missing; allowed: {', '.join(ENGINE_KINDS)}"
    if kind in ("dict_type", "model_type"):
        message = "must be a table"
    if path == ["engine"] and isinstance(given, dict):
        return "engine is a kind, not a table; use [engines.NAME] in the file"
    if not where:
        return message
    return f"{where}: {message}{_shown(path, given)}"


def _place(path: list[str]) -> str:
    """The dotted path of a problem, without the kind that pydantic adds after an engine's name."""
    if path[:1] == ["engines"] and path[2:3] and path[2] in ENGINE_KINDS:
        path = [*path[:2], *path[3:]]
    return ".".join(path)


def _belongs_above(path: list[str], fields: Mapping[str, FieldInfo]) -> str:
    """A hint for a top-level key that was written below the header of a table."""
    return "; move it above the first table" if len(path) > 1 and path[-1] in fields else ""


def _shown(path: list[str], given: Any) -> str:
    if path[-1] in _SECRET or given is None:
        return ""
    if path[-1] == "url" and "@" in str(given):
        return ""  # it contains a password
    return validation.shown(given)
