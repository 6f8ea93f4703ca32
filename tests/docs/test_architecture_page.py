"""docs/architecture.md is short, has one diagram and lists every event; README.md is short."""

import re
from pathlib import Path

from secondpass.service.common.events import Event

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_page_has_at_most_900_words_and_one_diagram() -> None:
    assert len(PAGE.split()) <= 900
    assert PAGE.count("```mermaid") == 1


def test_event_table_is_complete() -> None:
    table = PAGE.split("| event |")[1].split("\n\n")[0]
    named = re.findall(
        r"`([a-z.]+)`", "\n".join(row.split("|")[1] for row in table.splitlines()[2:])
    )
    assert sorted(named) == sorted({event.type for event in Event.__subclasses__()})


def test_page_does_not_list_modules() -> None:
    named = set(re.findall(r"(?:service|strategies)/[\w/]+\.py", PAGE))
    assert len(named) <= 2, f"describe what modules do, and link to them sparingly: {named}"


def test_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
