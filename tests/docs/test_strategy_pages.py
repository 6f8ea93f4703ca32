"""Each strategy has a page in docs/strategies/ with the same sections and all its parameters."""

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.registry import Signal, Strategy, Update, Variants

FOLDER = Path(__file__).parents[2] / "docs" / "strategies"
OURS = {name: strategy for name, strategy in STRATEGIES.items() if strategy.is_ours}
SECTIONS = (
    "Parameters",
    "How it works",
    "Cost",
    "When it helps, when it harms",
    "Result",
    "Papers and deviations",
)
COLUMNS = ["parameter", "default", "allowed values", "meaning"]
SIGNAL_WORDS: dict[Signal, tuple[str, ...]] = {
    "none": ("nothing",),
    "agreement": ("agreement",),
    "self-score": ("grade",),
    "critique": ("critique",),
    "reward": ("score",),
    "execution": ("test",),
}
UPDATE_WORDS: dict[Update, tuple[str, ...]] = {
    "none": ("returns",),
    "select": ("selects",),
    "refine": ("revises", "retries"),
    "extend": ("continues",),
}
"""Words of which the row of a strategy in README.md contains one."""

_BLOCK = re.compile(r"```mermaid\n(.*?)\n```", re.DOTALL)
_LABEL = re.compile(r'\[(?!")[^\]]*\]|\{(?!")[^}]*\}|--\s+[^">\s-][^>]*?\s+-->')


def page_of(name: str) -> str:
    path = FOLDER / f"{name}.md"
    relative = f"docs/strategies/{path.name}"
    if not path.exists():
        pytest.fail(
            f"{relative} is missing: write a page for strategy {name!r}, docs/strategies/single.md is an example"
        )
    return path.read_text()


def rows_of(page: str) -> dict[str, list[str]]:
    """The cells of the parameter table, by parameter."""
    section = page.split("\n## Parameters\n")[1].split("\n## ", maxsplit=1)[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in cells] for cells in lines]
    if not table:
        return {}
    assert table[0] == COLUMNS
    assert {len(cells) for cells in table} == {len(COLUMNS)}
    return {cells[0].strip("`"): cells for cells in table[2:]}


def fields_of(strategy: Strategy[Any]) -> dict[str, list[FieldInfo]]:
    """The fields of every parameter: one per variant that has it, the default variant's first."""
    params = strategy.params
    if not (issubclass(params, Variants) and params.is_union()):
        return {name: [field] for name, field in params.model_fields.items()}
    found: dict[str, list[FieldInfo]] = {}
    for variant in params.variants().values():
        for name, field in variant.model_fields.items():
            found.setdefault(name, []).append(field)
    return found


def choices_in(annotation: Any) -> set[str]:
    """The texts of the Literals in a type, and `null` where it allows None."""
    if annotation is type(None):
        return {"null"}
    if annotation is bool:
        return {"true", "false"}
    if get_origin(annotation) is Literal:
        return {str(value) for value in get_args(annotation)}
    return {each for part in get_args(annotation) for each in choices_in(part)}


def bounds_of(field: FieldInfo) -> set[float]:
    bounds: set[float] = set()
    for each in field.metadata:
        match each:
            case Ge(ge=bound) | Gt(gt=bound) | Le(le=bound) | Lt(lt=bound):
                assert isinstance(bound, int | float)
                bounds.add(float(bound))
    return bounds


@pytest.mark.parametrize("name", OURS)
def test_a_page_has_a_summary_a_diagram_and_all_sections_in_order(name: str) -> None:
    page = page_of(name)
    lines = page.splitlines()
    assert lines[0] == f"# {name}"
    assert lines[2].endswith(".")
    assert tuple(re.findall(r"(?m)^## (.+)$", page)) == SECTIONS
    before = page.split("\n## Parameters\n")[0]
    diagrams = _BLOCK.findall(before)
    assert diagrams, f"docs/strategies/{name}.md has no mermaid diagram before its parameters"
    for diagram in _BLOCK.findall(page):
        assert diagram.startswith("flowchart ")
        assert _LABEL.findall(diagram) == [], "put labels of nodes and edges in double quotes"


@pytest.mark.parametrize("name", OURS)
def test_the_table_of_a_page_has_every_parameter_with_its_default(name: str) -> None:
    rows, fields = rows_of(page_of(name)), fields_of(OURS[name])
    relative = f"docs/strategies/{name}.md"
    assert rows.keys() == fields.keys(), f"the parameters in {relative} are not those of {name}"
    defaults = OURS[name].params.all_fields()
    for parameter, (_, default, _, meaning) in rows.items():
        expected = defaults[parameter].default
        found = default.strip("`")
        printed = found if isinstance(expected, str) else json.loads(found)
        assert printed == expected, f"{relative}: default of {parameter}"
        assert isinstance(printed, bool) == isinstance(expected, bool)
        assert meaning


@pytest.mark.parametrize("name", OURS)
def test_the_table_of_a_page_has_the_allowed_values_of_every_parameter(name: str) -> None:
    rows = rows_of(page_of(name))
    for parameter, fields in fields_of(OURS[name]).items():
        allowed = rows[parameter][2]
        choices = {each for field in fields for each in choices_in(field.annotation)}
        assert set(re.findall(r"`([^`]+)`", allowed)) == choices, parameter
        bounds = {bound for field in fields for bound in bounds_of(field)}
        plain = re.sub(r"`[^`]*`", "", allowed).replace(",", "")
        assert {float(each) for each in re.findall(r"\d+(?:\.\d+)?", plain)} == bounds, parameter


def test_every_page_belongs_to_a_registered_strategy() -> None:
    pages = {path.stem for path in FOLDER.glob("*.md")} - {"README"}
    assert pages - OURS.keys() == set(), "pages in docs/strategies/ without a registered strategy"


def test_the_index_links_every_page() -> None:
    index = (FOLDER / "README.md").read_text()
    missing = [name for name in OURS if f"[`{name}`]({name}.md)" not in index]
    assert missing == [], f"docs/strategies/README.md does not link {missing}"


def row_of(name: str) -> dict[str, str]:
    """Return the strategy's cells of the table in README.md, by heading."""
    table = (FOLDER / "README.md").read_text().split("\n## Overview\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    headings, _, *rows = [[cell.strip() for cell in cells] for cells in lines]
    (row,) = [cells for cells in rows if cells[0] == f"[`{name}`]({name}.md)"]
    return dict(zip(headings, row, strict=True))


@pytest.mark.parametrize("name", OURS)
def test_index_row_agrees_with_the_decorator(name: str) -> None:
    strategy, row = OURS[name], row_of(name)
    for column, words in (
        ("learns from", SIGNAL_WORDS[strategy.signal]),
        ("does", UPDATE_WORDS[strategy.update]),
        ("papers (arXiv)", (strategy.paper or "",)),
        ("streams tokens", ("yes" if strategy.streams else "no",)),
    ):
        assert any(word in row[column] for word in words), (
            f"docs/strategies/README.md: {column!r} of {name} contains none of {words}"
        )


def test_every_signal_and_update_has_words() -> None:
    assert SIGNAL_WORDS.keys() == set(get_args(Signal))
    assert UPDATE_WORDS.keys() == set(get_args(Update))


def test_every_parameter_has_a_description_in_the_schema() -> None:
    undescribed = [
        (name, parameter)
        for name, strategy in OURS.items()
        for parameter, fields in fields_of(strategy).items()
        if not any(field.description for field in fields)
        and not (
            issubclass(strategy.params, Variants) and parameter == strategy.params.discriminator
        )
    ]
    assert undescribed == []
