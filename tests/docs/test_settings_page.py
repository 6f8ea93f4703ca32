"""The settings pages contain every setting, with current defaults, ranges and descriptions."""

import re
import shutil
from pathlib import Path

import pytest
from pydantic import Field

from secondpass.service.config.settings import Settings
from secondpass.service.config.tables import HttpEngineTable, PoolingEngineTable
from tools import settings_page
from tools.settings_page import (
    FILE_ONLY,
    PAGES,
    PARTS,
    PageError,
    keys_table,
    outdated,
    rendered,
    settings_table,
)


def test_settings_pages_are_up_to_date() -> None:
    assert outdated() == {}, "run `make docs`"


def test_every_setting_with_a_flag_has_a_row() -> None:
    page = (PAGES / "settings.md").read_text()
    rows = re.findall(r"(?m)^\| `--([a-z-]+)` \| `SECONDPASS_([A-Z_]+)` \|", page)
    names = [name for name in Settings.model_fields if name not in FILE_ONLY]
    assert rows == [(name.replace("_", "-"), name.upper()) for name in names]


def test_every_setting_has_a_description() -> None:
    described = {name for name, field in Settings.model_fields.items() if field.description}
    assert described == set(Settings.model_fields) - set(FILE_ONLY)
    tables = [make() for parts in PARTS.values() for make in parts.values()]
    assert [row for table in tables for row in table.splitlines() if row.endswith("|  |")] == []


def test_a_new_setting_appears_with_its_default_range_and_description() -> None:
    class More(Settings):
        shots: int | None = Field(3, ge=1, le=9, description="examples per prompt")

    row = "| `--shots` | `SECONDPASS_SHOTS` | `3` | integer, 1 to 9 | examples per prompt |"
    assert row in settings_table(More).splitlines()
    assert row not in settings_table().splitlines()


def test_a_new_engine_key_appears() -> None:
    class More(HttpEngineTable):
        region: str = Field(description="region of the server")

    lines = keys_table(More, without=["kind"]).splitlines()
    assert "| `region` | required | text | region of the server |" in lines


def test_pooling_engines_have_the_keys_of_http_engines() -> None:
    assert keys_table(PoolingEngineTable, without=["kind"]) == keys_table(
        HttpEngineTable, without=["kind"]
    )


def test_an_outdated_page_is_reported_and_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in PARTS:
        shutil.copy(PAGES / name, tmp_path)
    page = tmp_path / "settings.md"
    current = page.read_text()
    page.write_text(current.replace("| `8000` |", "| `8001` |"))
    monkeypatch.setattr(settings_page, "outdated", lambda: outdated(tmp_path))
    monkeypatch.setattr("sys.argv", ["settings_page", "--check"])
    with pytest.raises(SystemExit, match="make docs"):
        settings_page.main()
    assert page.read_text() != current
    monkeypatch.setattr("sys.argv", ["settings_page"])
    settings_page.main()
    assert page.read_text() == current
    assert capsys.readouterr().out.splitlines() == [
        "settings.md: out of date",
        "settings.md: written",
    ]


@pytest.mark.parametrize(
    "page", ["", "<!-- a -->", "<!-- /a --> <!-- a -->", "<!-- a --><!-- a --><!-- /a -->"]
)
def test_a_page_needs_one_pair_of_markers(page: str) -> None:
    with pytest.raises(PageError, match="<!-- a -->"):
        rendered(page, {"a": str})
