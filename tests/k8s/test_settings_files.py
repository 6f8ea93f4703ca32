"""Settings files: the base documents every key and its default, and those of overlays load."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, TypeAdapter

from secondpass.service.config.settings import Settings, load
from secondpass.service.config.tables import HttpEngineTable, ProfileTable, Roles, RoleTable
from tests.k8s.manifests import K8S, OVERLAYS, env_values, max_pods, pod_spec, render_overlay
from tests.k8s.manifests import find_object as find
from tests.k8s.tools import run

BASE = K8S / "base/secondpass.toml"
FILES = [BASE, *(K8S / "overlays" / name / "secondpass.toml" for name in OVERLAYS)]
TABLES = {"engines", "roles", "profiles"}
OPEN = "nset by default"  # in the comment of each key without a default

_KEY = re.compile(r"(# )?([a-z_]+) = (.+)")
_TABLE = re.compile(r"(# )?\[([a-z_.-]+)\]")


class Line(NamedTuple):
    """A key of a settings file, set or commented out."""

    table: str
    key: str
    value: Any
    is_set: bool
    comment: str


def _lines(text: str) -> Iterator[Line]:
    table, comment = "", ""
    for line in text.splitlines():
        if header := _TABLE.fullmatch(line):
            table = header[2]
        elif key := _KEY.fullmatch(line):
            value = tomllib.loads(f"value = {key[3]}")["value"]
            yield Line(table.split(".")[0], key[2], value, key[1] is None, comment)
        comment = f"{comment}\n{line}" if line.startswith("# ") and not _is_key(line) else ""


def _is_key(line: str) -> bool:
    """Return whether a line is a key or a table, set or commented out."""
    return bool(_KEY.fullmatch(line) or _TABLE.fullmatch(line))


def _in_base(table: str) -> dict[str, Line]:
    return {line.key: line for line in _lines(BASE.read_text()) if line.table == table}


def _default(model: type[BaseModel], key: str) -> Any:
    field = model.model_fields[key]
    return TypeAdapter(Any).dump_python(field.get_default(call_default_factory=True), mode="json")


def test_base_lists_every_setting_once() -> None:
    keys = [line.key for line in _lines(BASE.read_text()) if line.table == ""]
    assert sorted(keys) == sorted(set(Settings.model_fields) - TABLES - {"config"})


@pytest.mark.parametrize(
    ("table", "model"),
    [("engines", HttpEngineTable), ("profiles", ProfileTable), ("roles", Roles)],
)
def test_base_lists_every_key_of_a_table(table: str, model: type[BaseModel]) -> None:
    assert set(_in_base(table)) == set(model.model_fields)


def test_base_lists_every_key_of_a_role() -> None:
    assert set(_in_base("roles")["critic"].value) == set(RoleTable.model_fields)


@pytest.mark.parametrize(("table", "model"), [("", Settings), ("engines", HttpEngineTable)])
def test_commented_keys_show_their_defaults(table: str, model: type[BaseModel]) -> None:
    falls_back = {"max_concurrent_calls"} if table else set()
    for line in _in_base(table).values():
        if line.is_set or line.key in falls_back:
            continue
        default = _default(model, line.key)
        if default is None:
            assert OPEN in line.comment, line.key
        else:
            assert line.value == default, line.key


def test_set_keys_differ_from_their_defaults() -> None:
    for line in _in_base("").values():
        if line.is_set:
            assert line.value != _default(Settings, line.key), line.key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_every_key_has_a_comment(path: Path) -> None:
    for line in _lines(path.read_text()):
        if line.is_set or line.table in ("", "engines"):
            assert len(line.comment) > 10, line.key
    for text in path.read_text().splitlines():
        if text and not text.startswith("#"):
            assert _is_key(text), text


@pytest.mark.compat
@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_settings_load_in_its_pod(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = render_overlay(name)
    container = pod_spec(find(objects, "Deployment", "secondpass"))["containers"][0]
    file = K8S / "overlays" / name / "secondpass.toml"
    inside = env_values(container) | {"SECONDPASS_CONFIG": str(file)}
    for key, value in inside.items():
        if key.startswith("SECONDPASS_"):
            monkeypatch.setenv(key, value)
    is_plugin = container.get("command") == ["vllm", "serve"]
    # The plug-in passes the engine and the address of vLLM's server.
    given = {"engine": "vllm", "model": "model", "host": "127.0.0.1"} if is_plugin else {}
    settings = load([], **given)
    assert settings.replicas == ("many" if max_pods(objects) > 1 else "one")
    if not is_plugin:
        assert settings.port == container["ports"][0]["containerPort"]
        assert settings.shutdown_grace_seconds > settings.max_deadline_ms / 1000


@pytest.mark.compat
@pytest.mark.parametrize(("name", "calls"), [("example", 128), ("prod", 256), ("split", 256)])
def test_check_config_accepts_overlays_and_reports_limits_per_pod(
    name: str, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (K8S / "overlays" / name / "secondpass.toml").read_text()
    for engine in tomllib.loads(text)["engines"].values():
        monkeypatch.setenv(engine.get("key_env", "UNUSED"), "key")
    keys = tmp_path / "api-keys"
    keys.write_text(f"house:{'0' * 64}\n")
    file = tmp_path / "secondpass.toml"
    file.write_text(text.replace("/etc/secondpass/keys/api-keys", str(keys)))
    printed = run(sys.executable, "-m", "secondpass.service", "check-config", file)
    assert "replicas: many" in printed
    assert f"; {calls} concurrent calls" in printed
    assert "limits per pod: the concurrent calls of each engine, " in printed
