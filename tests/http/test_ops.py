"""Routes for operators, and API keys."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secondpass.service.common.errors import BadSettings, Unauthorized
from secondpass.service.config.api_keys import ANONYMOUS, Tenants
from secondpass.service.engines.scripted.engine import Fault, Reply, ScriptedEngine, arithmetic
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.engine import Call
from tests.http.serving import QUESTION, Served, serving

KEY = "sk-one"
ASK = {"model": "scripted@single", "messages": [{"role": "user", "content": "hi"}]}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_every_strategy_is_described(served: Served) -> None:
    described = served.get("/strategies").json()["strategies"]
    vote = next(item for item in described if item["name"] == "self_consistency")
    assert {item["name"] for item in described} == set(STRATEGIES)
    assert vote["paper"] == "2203.11171"
    for variant in vote["params"]["$defs"].values():
        assert variant["properties"]["n"]["minimum"] == 1
    assert vote["summary"].endswith(".")
    assert vote["signal"] == "agreement"
    assert vote["update"] == "select"
    assert vote["needs"] == []
    assert vote["streams"] is False
    graded = next(item for item in described if item["name"] == "self_prm")
    assert graded["needs"] == ["labels"]
    assert graded["params"]["discriminator"]["propertyName"] == "grade"


def test_the_service_is_live_and_ready(served: Served) -> None:
    assert served.get("/livez").status_code == 200
    assert served.get("/readyz").json() == {"ready": True, "reasons": []}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/strategies", "/v1/models"])
def test_every_get_route_answers_head(served: Served, path: str) -> None:
    with served.client() as client:
        head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == served.get(path).headers["content-type"]


def test_metrics_count_solves_calls_and_tokens() -> None:
    with serving() as served:
        served.solve()
        served.solve(strategy={"name": "self_consistency", "params": {"n": 4, "stop": "none"}})
        served.solve(budget={"max_prompt_tokens": 1})
        served.post("/v1/chat/completions", ASK | {"model": "scripted"})
        text = served.get("/metrics").text
    for line in (
        'secondpass_solves_total{stop_reason="finished",strategy="single"} 1.0',
        'secondpass_solves_total{stop_reason="budget_exhausted",strategy="single"} 1.0',
        'secondpass_solves_total{stop_reason="finished",strategy="self_consistency"} 1.0',
        'secondpass_engine_calls_total{end="finished",role="actor",strategy="single"} 1.0',
        'secondpass_tokens_total{kind="completion",role="actor"} 75.0',
        'secondpass_tokens_total{kind="wasted",role="actor"} 0.0',
        "secondpass_runs_in_flight 0.0",
        'secondpass_engine_ready{engine="default"} 1.0',
        'secondpass_engine_calls_waiting{engine="default"} 0.0',
        'secondpass_plain_requests_total{status="200"} 1.0',
        'secondpass_overhead_seconds_count{strategy="single"} 2.0',
    ):
        assert line in text
    assert "vllm" not in text


def test_metrics_count_a_retried_call_once_and_each_of_its_attempts() -> None:
    faults: Iterator[Fault | None] = iter(("interrupt", None))

    def flaky(call: Call, index: int) -> Reply:
        return replace(arithmetic(call, index), fault=next(faults))

    with serving(ScriptedEngine(flaky)) as served:
        trace = served.solve(trace="summary").json()["trace"]
        text = served.get("/metrics").text
    for line in (
        'secondpass_engine_calls_total{end="finished",role="actor",strategy="single"} 1.0',
        'secondpass_engine_attempts_total{role="actor"} 2.0',
        'secondpass_engine_calls_in_flight{role="actor"} 0.0',
    ):
        assert line in text
    assert 'secondpass_engine_calls_total{end="failed"' not in text
    ended = [(each["end"], each["attempt"], each["retried"]) for each in trace]
    assert ended == [("failed", 1, True), ("finished", 2, False)]


def test_the_openapi_document_describes_both_bodies(served: Served) -> None:
    document = served.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert {"/solve", "/v1/chat/completions", "/strategies"} <= set(document["paths"])
    assert "question" in schemas["SolveRequest"]["properties"]
    assert "secondpass" in schemas["ChatRequest"]["properties"]
    assert "Problem" in schemas
    body = document["paths"]["/solve"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["$ref"] == "#/components/schemas/SolveRequest"


def refs_of(schema: dict[str, Any]) -> list[str]:
    return [branch["$ref"] for branch in schema.get("oneOf", ())]


def test_the_openapi_document_describes_the_params_of_every_strategy(served: Served) -> None:
    schemas = served.get("/openapi.json").json()["components"]["schemas"]
    choices = {each["title"]: each for each in schemas["StrategyChoice"]["oneOf"]}
    assert set(choices) == set(STRATEGIES)
    for name, strategy in STRATEGIES.items():
        properties = choices[name]["properties"]
        assert properties["name"] == {"const": name}
        params = schemas[properties["params"]["$ref"].rpartition("/")[2]]
        branches = [schemas[ref.rpartition("/")[2]] for ref in refs_of(params)] or [params]
        fields = {field for branch in branches for field in branch["properties"]}
        assert fields == set(strategy.params.all_fields())
        if "discriminator" in params:
            assert set(params["discriminator"]["mapping"].values()) == set(refs_of(params))
    for body in ("SolveRequest", "Extension"):
        (named,) = (
            part
            for part in schemas[body]["properties"]["strategy"]["anyOf"][0]["oneOf"]
            if part.get("type") == "string"
        )
        assert set(named["enum"]) == set(STRATEGIES)


@pytest.mark.parametrize(
    ("path", "body", "kind", "model"),
    [
        ("/solve", {}, "application/problem+json", "Problem"),
        ("/v1/chat/completions", {}, "application/json", "OpenAIError"),
    ],
)
def test_the_openapi_document_describes_the_actual_errors(
    served: Served, path: str, body: dict[str, str], kind: str, model: str
) -> None:
    document = served.get("/openapi.json").json()
    described = document["paths"][path]["post"]["responses"]["4XX"]["content"]
    reply = served.post(path, body)
    required = set(document["components"]["schemas"][model]["required"])
    assert described == {kind: {"schema": {"$ref": f"#/components/schemas/{model}"}}}
    assert reply.headers["content-type"] == kind
    assert required <= set(reply.json())


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"# ours\nalice:{digest(KEY)}\n\nbob: {digest('sk-two')}  # the other\n")
    with serving(api_keys_file=keys) as running:
        yield running


@pytest.mark.parametrize("header", [None, "Bearer sk-three", "Basic c2stb25l", "Bearer", KEY])
def test_a_request_without_a_known_key_starts_no_call(guarded: Served, header: str | None) -> None:
    before = len(guarded.engine.calls)
    headers = {"authorization": header} if header else {}
    solve = guarded.post("/solve", QUESTION, headers=headers)
    chat = guarded.post("/v1/chat/completions", ASK, headers=headers)
    assert solve.status_code == chat.status_code == 401
    assert solve.headers["www-authenticate"] == "Bearer"
    assert solve.json()["code"] == "unauthorized"
    assert chat.json()["error"]["type"] == "authentication_error"
    assert len(guarded.engine.calls) == before


def test_each_tenant_has_its_own_cache_salt(guarded: Served) -> None:
    salts = []
    for key in (KEY, "sk-two", KEY):
        headers = {"authorization": f"Bearer {key}"}
        assert guarded.post("/solve", QUESTION, headers=headers).status_code == 200
        salts.append(guarded.engine.calls[-1].cache_salt)
    assert salts[0] == salts[2] != salts[1]
    assert all(salts)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_and_scrapers_need_no_key(guarded: Served, path: str) -> None:
    assert guarded.get(path).status_code == 200


def test_only_a_valid_key_gets_the_reason_why_a_role_is_not_ready(
    guarded: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedEngine, "ready", False)
    monkeypatch.setattr(ScriptedEngine, "why_not_ready", "it sleeps")
    for header in (None, "Bearer", "Bearer sk-three", KEY):
        headers = {"authorization": header} if header else {}
        ready = guarded.get("/readyz", headers=headers)
        assert (ready.status_code, "sleeps" in ready.text) == (503, False)
        assert ready.json()["reasons"][0] == "actor: not ready"
    told = guarded.get("/readyz", headers={"authorization": f"Bearer {KEY}"})
    assert told.status_code == 503
    assert told.json()["reasons"][0] == "actor: engine 'scripted': it sleeps"


def test_without_configured_keys_no_request_gets_the_reason(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedEngine, "ready", False)
    monkeypatch.setattr(ScriptedEngine, "why_not_ready", "it sleeps")
    assert "sleeps" not in served.get("/readyz", headers={"authorization": "Bearer x"}).text


@pytest.mark.parametrize("path", ["/strategies", "/v1/models", "/openapi.json", "/nowhere"])
def test_all_other_paths_need_a_key(guarded: Served, path: str) -> None:
    assert guarded.get(path).status_code == 401


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("alice", "SHA-256"),
        ("alice:sk-one", "not by the key"),
        (f":{'0' * 64}", "tenant name"),
        (f"a b:{'0' * 64}", "tenant name"),
        (f"alice:{'0' * 63}", "64"),
        (f"alice:{'0' * 64}\nbob:{'0' * 64}", "another tenant"),
        ("# nobody", "no key"),
    ],
)
def test_an_invalid_key_file_names_the_line(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# first\n{line}\n")
    with pytest.raises(BadSettings, match=expected) as bad:
        Tenants.load(path)
    assert "no key" in expected or "line" in str(bad.value)
    assert "sk-one" not in str(bad.value)


def test_a_missing_key_file_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="nowhere"):
        Tenants.load(tmp_path / "nowhere")


def test_a_tenant_may_have_several_keys() -> None:
    tenants = Tenants({digest("old"): "alice", digest("new"): "alice"})
    assert tenants.identify("Bearer old") == tenants.identify("bearer new")
    with pytest.raises(Unauthorized):
        tenants.identify("Bearer other")


@pytest.mark.parametrize("position", range(32))
def test_a_key_whose_hash_differs_in_one_byte_is_rejected(position: int) -> None:
    hashed = bytearray.fromhex(digest(KEY))
    hashed[position] ^= 1
    with pytest.raises(Unauthorized):
        Tenants({hashed.hex(): "alice"}).identify(f"Bearer {KEY}")


def test_without_keys_every_request_is_accepted() -> None:
    assert Tenants().identify(None) is ANONYMOUS
