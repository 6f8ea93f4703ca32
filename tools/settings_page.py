"""Write the reference tables of the operations pages from the settings classes.

Each table is between two markers, such as <!-- settings --> and <!-- /settings -->. All other text is hand-written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from secondpass.service.config import tables
from secondpass.service.config.settings import Settings
from secondpass.service.config.sources import PREFIX
from secondpass.service.lab.reports.markdown import replace_between

PAGES = Path(__file__).parents[1] / "docs" / "operations"

FILE_ONLY = ("engines", "roles", "profiles")
"""Settings that are tables of the file. They have tables of their own in engines.md."""

_TYPES = {"integer": "integer", "number": "number", "string": "text", "array": "list"}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}

Json = Mapping[str, Any]


class PageError(Exception):
    """A page has no single pair of markers for a table."""


def settings_table(settings: type[BaseModel] = Settings) -> str:
    """Return the table of all settings that have a flag, in the order of the class."""
    rows = [
        (
            f"`--{name.replace('_', '-')}`",
            f"`{PREFIX}{name.upper()}`",
            _default(field),
            _allowed(field),
            field.get("description", ""),
        )
        for name, field in _fields(settings).items()
        if name not in FILE_ONLY
    ]
    return _table(("flag", "variable", "default", "allowed", "meaning"), rows)


def keys_table(model: type[BaseModel], *, without: Iterable[str] = ()) -> str:
    """Return the table of the keys of one table of the file, required keys first."""
    required = model.model_json_schema().get("required", [])
    rows = [
        (
            f"`{name}`",
            "required" if name in required else _default(field),
            _allowed(field),
            field.get("description", ""),
        )
        for name, field in _fields(model).items()
        if name not in without
    ]
    rows.sort(key=lambda row: row[1] != "required")
    return _table(("key", "default", "allowed", "meaning"), rows)


def roles_table() -> str:
    """Return the table of the roles."""
    rows = [
        (f"`{name}`", field.get("description", "")) for name, field in _fields(tables.Roles).items()
    ]
    return _table(("role", "meaning"), rows)


PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "settings.md": {"settings": settings_table},
    "engines.md": {
        "engine-http": lambda: keys_table(tables.HttpEngineTable, without=["kind"]),
        "engine-vllm": lambda: keys_table(tables.VllmEngineTable, without=["kind"]),
        "engine-scripted": lambda: keys_table(tables.ScriptedEngineTable, without=["kind"]),
        "roles": roles_table,
        "role": lambda: keys_table(tables.RoleTable),
        "profile": lambda: keys_table(tables.ProfileTable),
    },
}
"""The tables of each page, by the name of their markers."""


def rendered(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Return the page with current tables between its markers. Raises PageError."""
    for name, make in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        written = replace_between(page, begin, end, make())
        if written is None:
            raise PageError(f"expected one line {begin!r} and below it one line {end!r}")
        page = written
    return page


def outdated(folder: Path = PAGES) -> dict[Path, str]:
    """Return the new text of every page that is out of date. Raises PageError."""
    texts = {folder / name: parts for name, parts in PARTS.items()}
    new = {path: rendered(path.read_text("utf-8"), parts) for path, parts in texts.items()}
    return {path: text for path, text in new.items() if text != path.read_text("utf-8")}


def main() -> None:
    """Write the pages, or exit with 1 under --check if a page is out of date."""
    parser = argparse.ArgumentParser(
        prog="settings_page", description="Write the tables of settings in docs/operations."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if outdated"
    )
    is_check = parser.parse_args().check
    pages = outdated()
    for path, text in pages.items():
        if not is_check:
            path.write_text(text, "utf-8")
        print(f"{path.name}: {'out of date' if is_check else 'written'}")
    if is_check and pages:
        sys.exit("settings_page: run `make docs`")


def _fields(model: type[BaseModel]) -> dict[str, Json]:
    """The fields by name, as their JSON schemas without null."""
    properties = model.model_json_schema()["properties"]
    return {name: _without_null(field) for name, field in properties.items()}


def _without_null(field: Json) -> Json:
    branches = [one for one in field.get("anyOf", ()) if one.get("type") != "null"]
    return {**field, **branches[0]} if len(branches) == 1 else field


def _default(field: Json) -> str:
    value = field.get("default")
    return (
        ""
        if value in (None, "", [])
        else f"`{value if isinstance(value, str) else json.dumps(value)}`"
    )


def _allowed(field: Json) -> str:
    """The allowed values, or the type and the range."""
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return "table"
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])}"
    kind = field["type"]
    if kind == "boolean":
        return "`true`, `false`"
    return "path" if field.get("format") == "path" else ", ".join((_TYPES[kind], *_range(field)))


def _range(field: Json) -> list[str]:
    if "minimum" in field and "maximum" in field:
        return [f"{field['minimum']} to {field['maximum']}"]
    return [f"{words} {field[bound]}" for bound, words in _BOUNDS.items() if bound in field]


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


if __name__ == "__main__":
    main()
