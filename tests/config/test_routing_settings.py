"""Settings for routing and replicas, and `secondpass check-config`."""

import hashlib
from pathlib import Path

import pytest

from secondpass.service.cli.main import main
from secondpass.service.common.errors import BadSettings
from secondpass.service.common.routing_headers import RESERVED
from secondpass.service.config.settings import Settings, load
from secondpass.service.config.tables import HttpEngineTable

BIG = """
[engines.big]
kind = "http"
url = "http://127.0.0.1:9/v1"
model = "m"
"""


def settings_in(file: Path, text: str) -> Settings:
    file.write_text(text)
    return load(["--config", str(file)])


def problems_in(file: Path, text: str) -> str:
    with pytest.raises(BadSettings) as bad:
        settings_in(file, text)
    return str(bad.value)


def test_session_headers_default_to_the_header_of_most_routers(file: Path) -> None:
    table = settings_in(file, BIG).engines["big"]
    assert isinstance(table, HttpEngineTable)
    assert (table.session_headers, table.tenant_headers) == (("X-Session-ID",), ())
    assert (table.objective, table.priority) == (None, None)


@pytest.mark.parametrize("key", ["session_headers", "tenant_headers"])
@pytest.mark.parametrize("name", ["X Session", "", "x:y", "Sitzung-ö", "x\\r\\ny", "(x)"])
def test_an_invalid_header_name_is_rejected(file: Path, key: str, name: str) -> None:
    message = problems_in(file, f'{BIG}\n{key} = ["{name}"]\n')
    assert message.startswith(f"engines.big.{key}.0: is not a header name: use letters, digits")


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_header_that_requests_already_carry_is_rejected(file: Path, name: str) -> None:
    message = problems_in(file, f'{BIG}\nsession_headers = ["{name.title()}"]\n')
    assert message.startswith("engines.big.session_headers.0: cannot be set")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('session_headers = ["X-A", "x-a"]', "engines.big.session_headers: lists x-a twice"),
        (
            'session_headers = ["X-A"]\ntenant_headers = ["x-a"]',
            "engines.big: tenant_headers and session_headers share the header x-a",
        ),
        (
            'session_headers = ["X-A", "x-llm-d-inference-fairness-id"]',
            "engines.big.session_headers.1: cannot carry a session",
        ),
        (
            'session_headers = ["X-Gateway-Destination-Endpoint"]',
            "engines.big.session_headers.0: cannot carry a session",
        ),
        (
            'tenant_headers = ["X-LiteLLM-Session-ID"]',
            "engines.big.tenant_headers.0: cannot carry the tenant",
        ),
        (
            'tenant_headers = ["X-Vllm-Priority"]\npriority = 1',
            "engines.big: priority and tenant_headers share the header x-vllm-priority",
        ),
        ('objective = "a\\nb"', "engines.big.objective: is not a header value"),
        ('objective = ""', "engines.big.objective: is not a header value"),
        ("priority = 1.5", "engines.big.priority: "),
        ("affinity = true", "engines.big.affinity: unknown setting 'affinity'"),
    ],
)
def test_invalid_routing_settings_are_named(file: Path, keys: str, message: str) -> None:
    assert problems_in(file, f"{BIG}\n{keys}\n").startswith(message)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:password@host:8000/v1",  # use key_env
        "http://user@host/v1",
        "http://user%3Apassword%40host:8000/v1",
        "http://user%40host/v1",
        "http://user:password%40host/v1",
        "http://host\\\\@other/v1",
        "http://host#@other/v1",
        "http://..:80/v1",
        f"http://{'a' * 70}/v1",
        "http://host:0/v1",
        "ftp://host/v1",
        "http:///v1",
        "http://host/v1?key=k",
    ],
)
def test_an_invalid_url_is_rejected(file: Path, url: str) -> None:
    message = problems_in(file, BIG.replace("http://127.0.0.1:9/v1", url))
    assert message.startswith("engines.big.url: must begin with http:// or https://")


def test_an_invalid_host_name_is_rejected_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--engine", "scripted", "--allow-unauthenticated", "--host", f"{'a' * 70}.x"]
    assert main(["serve", *flags]) == 2
    assert "--host: must be a host name or an IP address, not" in capsys.readouterr().err


def test_an_in_process_vllm_engine_has_no_session_headers(file: Path) -> None:
    text = '[engines.v]\nkind = "vllm"\nmodel = "m"\nsession_headers = []\n'
    assert "engines.v.session_headers: unknown setting" in problems_in(file, text)


def test_tenants_are_a_list_or_comma_separated(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_in(file, f'trusted_tenants = ["a", "b"]\n{BIG}').trusted_tenants == ("a", "b")
    monkeypatch.setenv("SECONDPASS_TRUSTED_TENANTS", "a, b")
    assert load(["--engine", "scripted"]).trusted_tenants == ("a", "b")
    flags = ["--trusted-tenants", "c", "--trusted-tenants", "d"]
    assert load(["--engine", "scripted", *flags]).trusted_tenants == ("c", "d")
    monkeypatch.setenv("SECONDPASS_TRUSTED_TENANTS", "")
    assert load(["--engine", "scripted"]).trusted_tenants == ()


@pytest.mark.parametrize("replicas", ["one", "many"])
def test_a_per_process_limit_is_rejected_with_many_replicas(file: Path, replicas: str) -> None:
    fake = '[engines.fake]\nkind = "scripted"\nrate = 100\n[roles]\nactor = "big"\n'
    text = f'replicas = "{replicas}"\n{BIG}\n{fake}'
    if replicas == "one":
        assert settings_in(file, text).replicas == "one"
    else:
        message = problems_in(file, text)
        assert "cannot enforce engines.fake.rate (counted per process)" in message
        assert 'replicas = "one"' in message


def test_replicas_has_two_values(file: Path) -> None:
    message = problems_in(file, f"replicas = 3\n{BIG}")
    assert message.startswith("replicas: must be one of 'one', 'many', not 3")


def test_check_config_summarizes_a_valid_file(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f'replicas = "many"\nmax_runs = 7\n{BIG}max_concurrent_calls = 51\n')
    assert main(["check-config", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: valid"
    assert "engine big: http, m: actor, critic, judge; 51 concurrent calls" in lines
    assert "replicas: many" in lines
    assert lines[-1].startswith("limits per pod: ")
    assert "max_runs = 7" in lines[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_m = 1\n" + BIG, "unknown setting 'max_m'; nearest: max_n"),
        (BIG + 'key_env = "NOT_THERE"\n', "NOT_THERE"),
        ('api_keys_file = "/not/there"\n' + BIG, "/not/there"),
        ('calibrations = "/not/there"\n' + BIG, "/not/there"),
        ('host = "0.0.0.0"\n' + BIG, "no API keys are configured"),
        ('trusted_tenants = ["alice"]\n' + BIG, "trusted_tenants has no key for alice"),
        ("max_n = \n", "Invalid value"),
        ('session_headers = ["X-A"]\n' + BIG, "unknown setting 'session_headers'"),
        (BIG + 'key_env = "sk-abc"\n', "engines.big.key_env: must be the name of a variable"),
    ],
)
def test_check_config_rejects_what_serve_rejects(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    file.write_text(text)
    assert main(["check-config", str(file)]) == 2
    checked = capsys.readouterr()
    assert checked.out == ""
    assert message in checked.err
    assert all(line.startswith("secondpass check-config: ") for line in checked.err.splitlines())
    assert main(["serve", "--config", str(file), "--port", "0"]) == 2
    refused = capsys.readouterr().err
    assert refused.replace("serve: ", "check-config: ") == checked.err


def test_a_trusted_tenant_needs_a_key(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice:{hashlib.sha256(b'k').hexdigest()}\n")
    head = f'api_keys_file = "{keys}"\n'
    file.write_text(f'{head}trusted_tenants = ["alice"]\n{BIG}')
    assert main(["check-config", str(file)]) == 0
    file.write_text(f'{head}trusted_tenants = ["bob"]\n{BIG}')
    assert main(["check-config", str(file)]) == 2
    assert "no key for bob; allowed: *, alice" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[engine.big]\nkind = "http"\n', "engine is a kind, not a table; use [engines.NAME]"),
        (
            BIG + 'session_headers = "X-A"\n',
            "engines.big.session_headers: must be a list, not 'X-A'",
        ),
        (BIG + 'replicas = "many"\n', "; move it above the first table"),
        (BIG.replace(".big", ".vllm") + "max_n = 1\n", "engines.vllm.max_n: unknown setting"),
        (BIG.replace(".big", ".http") + "priority = 1.5\n", "engines.http.priority: "),
    ],
)
def test_a_message_names_the_table_and_the_likely_cause(
    file: Path, text: str, message: str
) -> None:
    assert message in problems_in(file, text)


def test_a_key_set_instead_of_its_variable_is_not_echoed(file: Path) -> None:
    assert "sk-abc" not in problems_in(file, BIG + 'key_env = "sk-abc"\n')


def test_a_password_in_a_url_is_not_echoed(file: Path) -> None:
    message = problems_in(file, BIG.replace("http://", "http://user:hunter2@"))
    assert "hunter2" not in message
    for url in ("http://user:hunter2@h/v1", "http://user%3Ahunter2%40h/v1"):
        with pytest.raises(BadSettings) as bad:
            load(["--engine", "http", "--model", "m", "--engine-url", url])
        assert "hunter2" not in str(bad.value)


def test_every_problem_is_reported_on_its_own_line(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = BIG.replace(".big", ".judge")
    roles = '[roles]\nactor = "big"\n'
    head = 'default_strategy = "none"\nhost = "0.0.0.0"\nreplicas = "many"\n'
    fake = '[engines.fake]\nkind = "scripted"\nrate = 1\n'
    file.write_text(f"{head}{BIG}{fake}{roles}")
    assert main(["check-config", str(file)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3

    head = 'api_keys_file = "/not/there"\ncalibrations = "/not/there"\n'
    key = 'key_env = "NOT_THERE"\n'
    file.write_text(f"{head}{BIG}{key}{other}{key}{roles}")
    assert main(["check-config", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert sum("NOT_THERE" in line for line in lines) == 2
    assert all(f"engine '{name}'" in "\n".join(lines) for name in ("big", "judge"))


def test_check_config_warns_of_a_grace_below_the_longest_deadline(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f"max_deadline_ms = 1200000\nshutdown_grace_seconds = 660\n{BIG}")
    assert main(["check-config", str(file)]) == 0
    assert (
        "longest deadline: 1200 s; shutdown_grace_seconds: 660\non shutdown, runs"
        in capsys.readouterr().out
    )
    file.write_text(f"max_deadline_ms = 600000\nshutdown_grace_seconds = 660\n{BIG}")
    assert main(["check-config", str(file)]) == 0
    assert "on shutdown" not in capsys.readouterr().out
