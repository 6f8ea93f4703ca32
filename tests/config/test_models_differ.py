"""Settings of individual models: role tables, profiles and calibrations."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from secondpass.service.common.errors import BadSettings
from secondpass.service.config.calibration_files import SUFFIX, load_calibrations, save_calibration
from secondpass.service.config.settings import Settings, load
from secondpass.service.http.resolve import calibrations_of, profiles_of
from secondpass.service.server.app import create_app, service_in
from secondpass.strategies.api.calibration import Calibration

ENGINES = """\
[engines.big]
kind = "scripted"
model = "Qwen3-32B"
[engines.small]
kind = "scripted"
model = "house-model"
"""


def settings_of(folder: Path, text: str, *flags: str) -> Settings:
    file = folder / "settings.toml"
    file.write_text(ENGINES + text)
    return load(["--config", str(file), *flags])


def measured(model: str, auroc: float = 0.8, **more: Any) -> Calibration:
    values = {"labels": ("A", "B"), "mass": 0.9, "temperature": 1.5, "accuracy": 0.5, "n": 100}
    drawn = {"drawn": date(2026, 1, 2), "data": "0" * 64}
    return Calibration.model_validate({"model": model, "auroc": auroc, **values, **drawn, **more})


def test_a_role_is_a_name_or_a_table(tmp_path: Path) -> None:
    text = (
        '[roles]\nactor = "big"\ncritic = {engine = "small", temperature = 0.9, max_tokens = 50}\n'
    )
    settings = settings_of(tmp_path, text + "[roles.judge]\ntemperature = 0.2\n")
    assert settings.role_engines == {"actor": "big", "critic": "small", "judge": "big"}
    assert (settings.roles.critic.temperature, settings.roles.critic.max_tokens) == (0.9, 50)
    assert settings.roles.judge.temperature == 0.2


def test_a_role_can_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECONDPASS_ROLES__CRITIC", "small")
    settings = settings_of(tmp_path, '[roles]\nactor = "big"\n')
    assert settings.role_engines["critic"] == "small"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('critic = {engine = "medium"}', ("roles.critic", "big, small", "'medium'")),
        ('critic = {engin = "small"}', ("roles.critic.engin", "engine")),
        ("critic = {temperature = 3}", ("roles.critic.temperature", "must be at most 2, not 3")),
        ("critic = 5", ("roles.critic", "5")),
        ('[profiles.x]\nmatch = "h*"\nis_thinkin = true', ("profiles.x.is_thinkin", "is_thinking")),
        ("[profiles.x]\nis_thinking = true", ("profiles.x.match",)),
        (
            '[profiles.x]\nmatch = "h*"\nis_thinking = true\ntemperature = 0',
            ("profiles.x", "above 0"),
        ),
    ],
)
def test_a_bad_table_names_the_key(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    with pytest.raises(BadSettings) as caught:
        settings_of(tmp_path, f'[roles]\nactor = "big"\n{text}\n')
    assert all(word in str(caught.value) for word in expected), str(caught.value)


def test_a_profile_overrides_the_name(tmp_path: Path) -> None:
    text = '[roles]\nactor = "big"\ncritic = "small"\n[profiles.house]\nmatch = "HOUSE*"\nis_thinking = true\n'
    app = create_app(settings_of(tmp_path, text + 'thinking = ["[T]", "[/T]"]\n'))
    service = service_in(app)
    profiles = profiles_of(service, service.roles)
    assert profiles["actor"].name == "qwen3"
    assert (profiles["critic"].name, profiles["critic"].is_thinking) == ("house", True)
    assert profiles["critic"].conclusion("[T]no[/T] yes") == "yes"


def test_calibrations_apply_to_the_models_of_roles(tmp_path: Path) -> None:
    folder = tmp_path / "calibrations"
    folder.mkdir()
    save_calibration(folder / f"house{SUFFIX}", measured("house-model"))
    text = '[roles]\nactor = "big"\njudge = "small"\n'
    app = create_app(settings_of(tmp_path, text, "--calibrations", str(folder)))
    service = service_in(app)
    assert calibrations_of(service, service.roles) == {"judge": measured("house-model")}


def test_an_invalid_calibration_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="No such file"):
        load_calibrations(tmp_path / "none.json")
    with pytest.raises(BadSettings, match=r"contains no \*.calibration.json"):
        load_calibrations(tmp_path)
    file = tmp_path / f"a{SUFFIX}"
    file.write_text('{"auroc": 2}')
    with pytest.raises(BadSettings, match=rf"{file.name}: \w+: "):
        load_calibrations(tmp_path)
    file.write_text("no")
    with pytest.raises(BadSettings, match="Invalid JSON"):
        load_calibrations(file)
    save_calibration(file, measured("m"))
    save_calibration(tmp_path / f"b{SUFFIX}", measured("m"))
    with pytest.raises(BadSettings, match="both calibrate model 'm'"):
        load_calibrations(tmp_path)
