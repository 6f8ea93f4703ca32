"""Settings of routing and of several replicas, and the command that checks a file of settings."""

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


def test_an_engine_has_the_header_of_most_routers_unless_its_table_names_others(file: Path) -> None:
    table = settings_in(file, BIG).engines["big"]
    assert isinstance(table, HttpEngineTable)
    assert (table.session_headers, table.tenant_headers) == (("X-Session-ID",), ())
    assert (table.objective, table.priority) == (None, None)


@pytest.mark.parametrize("key", ["session_headers", "tenant_headers"])
@pytest.mark.parametrize("name", ["X Session", "", "x:y", "Sitzung-ö", "x\\r\\ny", "(x)"])
def test_a_header_name_that_is_no_token_is_refused(file: Path, key: str, name: str) -> None:
    said = problems_in(file, f'{BIG}\n{key} = ["{name}"]\n')
    assert said.startswith(f"engines.big.{key}.0: is not the name of a header: letters, digits")


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_header_that_requests_carry_already_is_refused(file: Path, name: str) -> None:
    said = problems_in(file, f'{BIG}\nsession_headers = ["{name.title()}"]\n')
    assert said.startswith("engines.big.session_headers.0: cannot be set")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('session_headers = ["X-A", "x-a"]', "engines.big.session_headers: has x-a twice"),
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
        ('objective = "a\\nb"', "engines.big.objective: is not the value of a header"),
        ('objective = ""', "engines.big.objective: is not the value of a header"),
        ("priority = 1.5", "engines.big.priority: "),
        ("affinity = true", "engines.big.affinity: there is no setting 'affinity'"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(file: Path, keys: str, said: str) -> None:
    assert problems_in(file, f"{BIG}\n{keys}\n").startswith(said)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:password@host:8000/v1",  # the key has a place of its own
        "http://user@host/v1",
        "http://..:80/v1",
        f"http://{'a' * 70}/v1",
        "http://host:0/v1",
        "ftp://host/v1",
        "http:///v1",
        "http://host/v1?key=k",
    ],
)
def test_an_address_that_no_request_can_have_is_refused(file: Path, url: str) -> None:
    said = problems_in(file, BIG.replace("http://127.0.0.1:9/v1", url))
    assert said.startswith("engines.big.url: begins with http:// or https://")


def test_a_host_that_is_no_name_is_refused_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--engine", "scripted", "--allow-unauthenticated", "--host", f"{'a' * 70}.x"]
    assert main(["serve", *flags]) == 2
    assert "is not the name of a host" in capsys.readouterr().err


def test_a_vllm_engine_in_process_has_no_router_before_it(file: Path) -> None:
    text = '[engines.v]\nkind = "vllm"\nmodel = "m"\nsession_headers = []\n'
    assert "engines.v.session_headers: there is no setting" in problems_in(file, text)


def test_tenants_are_named_in_a_list_or_with_commas(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings_in(file, f'trusted_tenants = ["a", "b"]\n{BIG}').trusted_tenants == ("a", "b")
    monkeypatch.setenv("SECONDPASS_TRUSTED_TENANTS", "a, b")
    assert load(["--engine", "scripted"]).trusted_tenants == ("a", "b")
    flags = ["--trusted-tenants", "c", "--trusted-tenants", "d"]
    assert load(["--engine", "scripted", *flags]).trusted_tenants == ("c", "d")
    monkeypatch.setenv("SECONDPASS_TRUSTED_TENANTS", "")
    assert load(["--engine", "scripted"]).trusted_tenants == ()


@pytest.mark.parametrize("replicas", ["one", "many"])
def test_what_one_process_counts_is_refused_for_many_replicas(file: Path, replicas: str) -> None:
    fake = '[engines.fake]\nkind = "scripted"\nrate = 100\n[roles]\nactor = "big"\n'
    text = f'replicas = "{replicas}"\n{BIG}\n{fake}'
    if replicas == "one":
        assert settings_in(file, text).replicas == "one"
    else:
        said = problems_in(file, text)
        assert "engines.fake.rate is counted in one process" in said
        assert 'replicas = "one"' in said


def test_replicas_has_two_values(file: Path) -> None:
    said = problems_in(file, f"replicas = 3\n{BIG}")
    assert said.startswith("replicas: Input should be 'one' or 'many'")


def test_a_valid_file_is_summed_up(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(f'replicas = "many"\nmax_runs = 7\n{BIG}max_concurrent_calls = 51\n')
    assert main(["check-config", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: valid"
    assert "engine big: http, m: actor, critic, judge; 51 calls at once" in lines
    assert "replicas: many" in lines
    assert lines[-1].startswith("for each pod: ")
    assert "max_runs = 7" in lines[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_m = 1\n" + BIG, "there is no setting 'max_m'; nearest: max_n"),
        (BIG + 'key_env = "NOT_THERE"\n', "NOT_THERE"),
        ('api_keys_file = "/not/there"\n' + BIG, "/not/there"),
        ('calibrations = "/not/there"\n' + BIG, "/not/there"),
        ('host = "0.0.0.0"\n' + BIG, "there are no API keys"),
        ('trusted_tenants = ["alice"]\n' + BIG, "trusted_tenants has no key for alice"),
        ("max_n = \n", "Invalid value"),
        ('session_headers = ["X-A"]\n' + BIG, "there is no setting 'session_headers'"),
        (BIG + 'key_env = "sk-abc"\n', "engines.big.key_env: names the variable"),
    ],
)
def test_what_serve_would_refuse_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file.write_text(text)
    assert main(["check-config", str(file)]) == 2
    checked = capsys.readouterr()
    assert checked.out == ""
    assert said in checked.err
    assert all(line.startswith("secondpass check-config: ") for line in checked.err.splitlines())
    assert main(["serve", "--config", str(file), "--port", "0"]) == 2
    refused = capsys.readouterr().err
    assert refused.replace("serve: ", "check-config: ") == checked.err


def test_a_tenant_that_is_trusted_needs_a_key(
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


def test_a_file_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[engine.big]\nkind = "http"\n', "engine is a kind and no table; an engine of the file"),
        (
            BIG + 'session_headers = "X-A"\n',
            "engines.big.session_headers: must be a list, not 'X-A'",
        ),
        (BIG + 'replicas = "many"\n', "; it belongs above the first table"),
        (BIG.replace(".big", ".vllm") + "max_n = 1\n", "engines.vllm.max_n: there is no setting"),
        (BIG.replace(".big", ".http") + "priority = 1.5\n", "engines.http.priority: "),
    ],
)
def test_a_message_names_the_table_and_what_was_meant(file: Path, text: str, said: str) -> None:
    assert said in problems_in(file, text)


def test_a_key_in_the_place_of_its_variable_is_not_repeated(file: Path) -> None:
    assert "sk-abc" not in problems_in(file, BIG + 'key_env = "sk-abc"\n')


def test_a_password_in_an_address_is_not_repeated(file: Path) -> None:
    said = problems_in(file, BIG.replace("http://", "http://user:hunter2@"))
    assert "hunter2" not in said
    with pytest.raises(BadSettings) as bad:
        load(["--engine", "http", "--model", "m", "--engine-url", "http://user:hunter2@h/v1"])
    assert "hunter2" not in str(bad.value)


def test_every_problem_has_a_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_grace_below_the_longest_solve_is_said(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f"max_deadline_ms = 1200000\nshutdown_grace_seconds = 660\n{BIG}")
    assert main(["check-config", str(file)]) == 0
    assert (
        "longest solve: 1200 s; shutdown_grace_seconds: 660\na shutdown ends"
        in capsys.readouterr().out
    )
    file.write_text(f"max_deadline_ms = 600000\nshutdown_grace_seconds = 660\n{BIG}")
    assert main(["check-config", str(file)]) == 0
    assert "a shutdown ends" not in capsys.readouterr().out
