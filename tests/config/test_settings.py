"""Settings: precedence of flags, variables and file, and errors for unknown keys."""

import re
import socket
from pathlib import Path
from typing import NoReturn

import pytest

from secondpass.service.cli.main import main
from secondpass.service.common.errors import BadSettings
from secondpass.service.config.settings import Settings, load

FAKE = ("--engine", "scripted")
REWARD_MODEL = """
[engines.rm]
kind = "pooling"
url = "http://vllm-c:8000/v1"
model = "rm"
"""


def problems(*arguments: str) -> str:
    with pytest.raises(BadSettings) as bad:
        load(arguments)
    return str(bad.value)


def test_flags_win_over_variables_and_variables_over_the_file(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text('engine = "scripted"\nport = 1\nmax_n = 1\nhost = "localhost"\n')
    monkeypatch.setenv("SECONDPASS_PORT", "2")
    monkeypatch.setenv("SECONDPASS_MAX_N", "2")
    settings = load(["--config", str(file), "--port", "3"])
    assert (settings.port, settings.max_n, settings.host) == (3, 2, "localhost")


def test_the_file_may_be_named_by_a_variable(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.write_text('engine = "scripted"\nport = 1\n')
    monkeypatch.setenv("SECONDPASS_CONFIG", str(file))
    assert load([]).port == 1


def test_one_engine_needs_only_flags() -> None:
    url = "http://127.0.0.1:9000/v1"
    settings = load(["--engine", "http", "--engine-url", url, "--model", "m"])
    table = settings.engine_tables["default"]
    assert table.kind == "http"
    assert table.url == url
    assert settings.role_engines == {"actor": "default", "critic": "default", "judge": "default"}


def test_roles_are_assigned_to_several_engines(file: Path) -> None:
    file.write_text(
        """
        [engines.big]
        kind = "http"
        url = "http://vllm-a:8000/v1"
        model = "Qwen/Qwen3-8B"
        prices = { prompt = 0.1, completion = 0.4 }
        [engines.small]
        kind = "http"
        url = "http://vllm-b:8000/v1"
        model = "Qwen/Qwen3-4B"
        max_concurrent_calls = 8
        [roles]
        actor = "big"
        judge = "small"
        """
    )
    settings = load(["--config", str(file)])
    assert settings.role_engines == {"actor": "big", "critic": "big", "judge": "small"}
    prices = settings.engine_tables["big"].prices
    assert prices
    assert prices.completion == 0.4


def test_a_reward_model_has_the_reward_role_only(file: Path) -> None:
    generator = "[engines.big]\nkind = 'http'\nurl = 'http://x/v1'\nmodel = 'm'\n"
    file.write_text(
        f"{REWARD_MODEL}prices = {{ prompt = 0.1 }}\n{generator}[roles]\nreward = 'rm'\n"
    )
    settings = load(["--config", str(file)])
    assert settings.role_engines == {
        "actor": "big",
        "critic": "big",
        "judge": "big",
        "reward": "rm",
    }


def test_an_engine_may_come_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (("KIND", "http"), ("URL", "http://x/v1"), ("MODEL", "m")):
        monkeypatch.setenv(f"SECONDPASS_ENGINES__BIG__{key}", value)
    assert load([]).role_engines["actor"] == "big"


def test_settings_are_frozen() -> None:
    settings = load(FAKE)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prot = 1", ("'prot'", "port")),
        ("[roles]\nactr = 'a'", ("roles.actr", "actor")),
        ("[engines.a]\nkind = 'http'\nurll = 'http://x'", ("engines.a.urll", "url")),
        ("[engines.a]\nkind = 'http'", ("engines.a.url", "engines.a.model")),
        ("[engines.a]\nkind = 'pooling'", ("engines.a.url", "engines.a.model")),
        (f"{REWARD_MODEL}top_k = 1", ("engines.rm.top_k", "url")),
        (REWARD_MODEL, ("roles.actor is missing", "generate no text")),
        (
            "[engines.a]\nkind='scripted'\n[roles]\nreward={engine='a',temperature=1.0}",
            ("roles.reward.temperature", "not sampled"),
        ),
        (
            f"{REWARD_MODEL}[engines.a]\nkind='scripted'\n[roles]\njudge='rm'",
            ("roles.judge", "'rm'"),
        ),
        (
            f"{REWARD_MODEL}[engines.a]\nkind='scripted'\n[engines.b]\nkind='scripted'",
            ("roles.actor: required with several engines; must be one of a, b",),
        ),
        ("[engines.a]\nmodel = 'm'", ("engines.a.kind is missing", "pooling")),
        ("[engines.a]\nkind = 'tgi'", ("engines.a", "'http'", "'vllm'", "'scripted'")),
        ("[engines.a]\nkind = 'vllm'", ("engines.a.model",)),
        (
            "[engines.a]\nkind = 'vllm'\nmodel = 'm'\nflags = \"'\"",
            ("engines.a.flags", "quotation"),
        ),
        (
            "[engines.a]\nkind = 'vllm'\nmodel = 'm'\n[engines.b]\nkind = 'vllm'\nmodel = 'm'",
            ("only one vllm engine", "a, b"),
        ),
        ("[engines.a]\nkind = 'http'\nurl = 'x:1'\nmodel = 'm'", ("engines.a.url", "'x:1'")),
        (
            "[engines.a]\nkind='http'\nurl='http:///v1'\nmodel='m'",
            ("engines.a.url", "name a host"),
        ),
        (
            "max_budget_cost = inf\n[engines.a]\nkind='scripted'\nprices={}",
            ("max_budget_cost", "finite"),
        ),
        ("port = 70000", ("port", "65535")),
        ("= 1", ("line 1",)),
        ("config = 'again'", ("'config'",)),
        ("[engines.a]\nkind='scripted'\n[engines.b]\nkind='scripted'", ("roles.actor", "a, b")),
        ("max_budget_cost = 1e-6\n[engines.a]\nkind='scripted'", ("prices", "'a'")),
        ("[engines.a]\nkind='scripted'\n[roles]\njudge='b'", ("roles.judge", "'b'")),
    ],
)
def test_a_bad_file_names_the_key(file: Path, text: str, expected: tuple[str, ...]) -> None:
    file.write_text(text)
    found = problems("--config", str(file))
    assert all(part in found for part in expected)


def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECONDPASS_MODLE", "m")
    assert "SECONDPASS_MODEL" in problems(*FAKE)


def test_a_variable_with_invalid_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECONDPASS_ROLES", "{")
    assert "SECONDPASS_ROLES is not JSON" in problems(*FAKE)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "no engine is configured"),
        (("--engine", "tgi"), "engine: must be one of 'http', 'vllm', 'scripted', not 'tgi'"),
        (("--engine", "vllm"), "model is missing"),
        ((*FAKE, "--", "--enforce-eager"), "vllm_flags is for the vllm engine"),
        (("--engine", "vllm", "--vllm-flags=--x", "--", "--y"), "--vllm-flags or after --"),
        (("--engine", "vllm", "--model", "m", "--engine-url", "http://x"), "for the http engine"),
        (("--engin", "http"), "--engine"),
        (("--model", "m"), "model: requires engine"),
        (("--engine", "http", "--model", "m"), "engine_url is missing"),
        (("--engine", "http", "--engine-url", "http://x/v1"), "model is missing"),
        (("--engine", "http", "--engine-url", "x", "--model", "m"), "must begin with http"),
        *(
            (("--engine", "http", "--engine-url", url, "--model", "m"), f"not {url!r}")
            for url in ("http://", "http://x:99999/v1", "http://a b/v1", "http://x/v1?k=1")
        ),
        ((*FAKE, "--engine-url", "http://x"), "not for the scripted"),
        ((*FAKE, "--port", "many"), "port"),
        ((*FAKE, "--default-strategy", "guessing"), "self_consistency"),
        ((*FAKE, "--default-open-strategy", "guessing"), "default_open_strategy: must be one of"),
        (
            (*FAKE, "--default-max-tokens", "10", "--max-budget-tokens", "5"),
            "at most max_budget_tokens (5), not 10",
        ),
        (
            (*FAKE, "--max-tokens-per-call", "10", "--max-sampling-tokens", "5"),
            "at most max_sampling_tokens (5), not 10",
        ),
        ((*FAKE, "--max-budget-cost", "1"), "'default'"),
        ((*FAKE, "--answer-workers", "0"), "answer_workers"),
        ((*FAKE, "--host", "0.0.0.0"), "allow_unauthenticated"),
        ((*FAKE, "--host", "secondpass.example"), "API keys"),
        ((*FAKE, "--config", "/nowhere.toml"), "/nowhere.toml"),
    ],
)
def test_invalid_settings_are_explained_in_one_line(
    arguments: tuple[str, ...], expected: str
) -> None:
    found = problems(*arguments)
    assert expected in found
    assert "\n" not in found


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert load([*FAKE, "--host", host]).host == host


def test_other_hosts_need_keys_or_an_explicit_flag(tmp_path: Path) -> None:
    for means in (["--allow-unauthenticated"], ["--api-keys-file", str(tmp_path)]):
        assert load([*FAKE, "--host", "0.0.0.0", *means]).host == "0.0.0.0"


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--help"])
    printed = capsys.readouterr().out
    shown = " ".join(printed.split())
    assert "\nExamples:\n  secondpass serve" in printed
    assert ended.value.code == 0
    for name, field in Settings.model_fields.items():
        if name in ("engines", "roles", "profiles"):
            continue
        assert f"--{name.replace('_', '-')}" in shown
        assert field.description
    defaults = [field.default for field in Settings.model_fields.values()]
    assert shown.count("(default: ") == sum(each not in (None, ()) for each in defaults) - 3
    assert re.findall(r"--config \S+|--host \S+|--max-n \S+", printed) == [
        "--config FILE]", "--host HOST]", "--max-n N]",
        "--config secondpass.toml", "--host 0.0.0.0",
        "--config FILE", "--host HOST", "--max-n N",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--version"], 0, "secondpass 0"),
        (["--help"], 0, "serve"),
        ([], 2, "usage"),
        (["sevre"], 2, "unknown command 'sevre'"),
    ],
)
def test_the_command_line_prints_usage_and_version(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, expected: str
) -> None:
    assert main(arguments) == code
    shown = capsys.readouterr()
    assert expected in shown.out + shown.err


def test_a_missing_key_variable_is_a_bad_setting(capsys: pytest.CaptureFixture[str]) -> None:
    engine = ["--engine", "http", "--engine-url", "http://x/v1", "--model", "m", "--port", "0"]
    assert main(["serve", *engine, "--engine-key-env", "NOT_THERE"]) == 2
    assert "NOT_THERE" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["", "sk-one\n", "schlüssel"])
def test_a_key_with_invalid_characters_is_a_bad_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    monkeypatch.setenv("ENGINE_KEY", key)
    engine = ["--engine", "http", "--engine-url", "http://x/v1", "--model", "m", "--port", "0"]
    assert main(["serve", *engine, "--engine-key-env", "ENGINE_KEY"]) == 2
    printed = capsys.readouterr().err
    assert "ENGINE_KEY" in printed
    assert not key or key not in printed


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "already in use"),
        ("192.0.2.1", "no such address"),
        ("no.such.host.invalid", "--host"),
    ],
)
def test_an_unusable_address_is_reported_before_an_engine_starts(
    host: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("secondpass.service.server.serve.in_process", _fail_if_started)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ["--engine", "scripted", "--allow-unauthenticated", "--host", host]
        assert main(["serve", *flags, "--port", port]) == 2
    assert f"--host {host} --port {port}: " in (message := capsys.readouterr().err)
    assert expected in message


def _fail_if_started(settings: Settings) -> NoReturn:
    raise AssertionError("an engine was started")
