"""docs/decisions/README.md lists every decision record with its title, in order."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"


def test_index_lists_every_record_in_order() -> None:
    records = []
    for path in sorted(FOLDER.glob("[0-9]*.md")):
        heading = re.fullmatch(r"# (\d+)\. (.+)", path.read_text().splitlines()[0])
        assert heading, f"{path.name} does not begin with its number and title"
        number, title = heading.groups()
        assert path.name.startswith(f"{int(number):04d}-")
        records.append((number, title, path.name))
    rows = re.findall(r"(?m)^\| (\d+) \| \[(.+)\]\((.+)\) \|$", (FOLDER / "README.md").read_text())
    assert rows == records
