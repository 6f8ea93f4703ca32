"""Every test and every module that docs/security.md names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
FILES = sorted(set(re.findall(r"`((?:service|strategies|tests|requirements)/[\w/.]+)`", PAGE)))


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_a_named_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    assert name in [each.name for each in tree.body if isinstance(each, functions)]


@pytest.mark.parametrize("path", FILES)
def test_a_named_file_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_threat_has_a_defence_and_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.count(" | ") == 2 and "---" not in line]
    threats = [row for row in rows if not row.startswith(("| threat", "| party"))]
    threats = [row for row in threats if row in PAGE.partition("## Requests")[2]]
    assert len(threats) >= 30
    for row in threats:
        threat, defence, test = (cell.strip() for cell in row.strip("|").split(" | "))
        assert threat, row
        assert defence, row
        assert "::" in test, row
