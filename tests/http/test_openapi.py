"""The OpenAPI document is accurate: its examples are accepted, and responses match its schemas."""

import json
import keyword
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from secondpass.service.http import response_models
from secondpass.service.http.openapi import merge_documents
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api import registry
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate
from tests.http.serving import Json, Served, serving

SUFFIXED = {"model": "scripted@self_consistency", "messages": [{"role": "user", "content": "6*7?"}]}


@pytest.fixture(scope="module")
def document(served: Served) -> Json:
    found: Json = served.get("/openapi.json").json()
    return found


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def check(model: type[BaseModel], reply: Any) -> None:
    """Assert that `reply` has exactly the fields and types of `model`."""
    seen = model.model_validate(reply).model_dump(mode="json", exclude_unset=True)
    assert seen == reply


def test_descriptions_contain_no_sections_of_docstrings(document: Json) -> None:
    sections = re.findall(r"(?:Args|Attributes|Raises|Returns):", json.dumps(document))
    assert sections == []


@pytest.mark.parametrize("trace", ["none", "summary", "full"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_an_answer_matches_its_schema(served: Served, name: str, trace: str) -> None:
    check(response_models.Answer, served.solve(strategy=name, trace=trace).json())


def test_every_other_response_matches_its_schema(served: Served) -> None:
    chat = "/v1/chat/completions"
    traced = {"secondpass": {"trace": "full"}}
    spent = {"budget": {"max_prompt_tokens": 1}}
    choice = {"kind": "choice", "options": ["41", "42"]}
    for model, reply in (
        (response_models.Answer, served.solve(task=choice)),
        (response_models.Problem, served.solve(**spent)),
        (response_models.Problem, served.solve(strategy="guessing")),
        (response_models.Problem, served.get("/nowhere")),
        (response_models.ChatCompletion, served.post(chat, SUFFIXED)),
        (response_models.ChatCompletion, served.post(chat, SUFFIXED | traced)),
        (response_models.ChatCompletion, served.post(chat, SUFFIXED | {"model": "scripted"})),
        (response_models.OpenAIError, served.post(chat, SUFFIXED | {"secondpass": spent})),
        (response_models.OpenAIError, served.post(chat, SUFFIXED | {"n": 2})),
        (response_models.ModelList, served.get("/v1/models")),
        (response_models.ModelCard, served.get("/v1/models/scripted@single")),
        (response_models.OpenAIError, served.get("/v1/models/other")),
        (response_models.StrategyList, served.get("/strategies")),
        (response_models.Readiness, served.get("/readyz")),
    ):
        check(model, reply.json())


def test_every_example_is_accepted(served: Served, document: Json) -> None:
    answered = 0
    for path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        for example in content.get("application/json", {}).get("examples", {}).values():
            assert served.post(path, example["value"]).status_code == 200
            answered += 1
    assert answered == 6


def test_a_client_can_be_generated(document: Json) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and not keyword.iskeyword(name) for name in names)
    for _, operation in operations(document):
        for response in operation["responses"].values():
            assert all(content["schema"] for content in response["content"].values())
    assert dangling(document) == set()


def test_the_document_declares_which_paths_need_a_key(document: Json) -> None:
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    assert document["security"] == [{}]
    assert document["paths"]["/livez"]["get"]["security"] == []


def test_a_plain_chat_may_have_unknown_fields(document: Json) -> None:
    chat = document["components"]["schemas"]["ChatRequest"]
    assert chat["additionalProperties"] is True
    assert {"type": "string"} in chat["properties"]["stop"]["anyOf"]
    assert document["components"]["schemas"]["SolveRequest"]["additionalProperties"] is False


def test_every_parameter_of_a_path_is_declared(document: Json) -> None:
    for path, operation in operations(document):
        declared = [
            each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"
        ]
        assert declared == re.findall(r"{(\w+)}", path)


def test_merging_keeps_the_routes_and_schema_names_of_the_other_application(
    served: Served, document: Json
) -> None:
    path = "/v1/chat/completions"
    other: Json = {
        "openapi": "3.1.0",
        "paths": {path: {"post": {}}, "/tokenize": {"post": {"schema": ref("Message")}}},
        "components": {"schemas": {"Message": {"title": "other"}}},
    }
    both = merge_documents(other, document)
    assert both["paths"]["/tokenize"] == other["paths"]["/tokenize"]
    assert both["paths"][path]["post"]["operationId"] == "chat"
    assert both["components"]["schemas"]["Message"] == {"title": "other"}
    assert dangling(both) == set()
    assert other["components"] == {"schemas": {"Message": {"title": "other"}}}
    assert served.get("/openapi.json").json() == document


async def elsewhere(run: Run, params: registry.Params) -> Candidate:
    """A strategy whose module belongs to another distribution."""
    return run.best


def test_params_of_other_distributions_may_reuse_class_names(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"first": "Single", "second": "ChatRequest", "third": "Single"}
    before = served.get("/openapi.json").json()["components"]["schemas"]
    for name, class_name in named.items():
        params = type(class_name, (registry.Params,), {"__module__": name})
        spec = replace(STRATEGIES["single"], name=name, params=params, module="elsewhere")
        monkeypatch.setitem(registry._registered, name, spec)
    with serving() as extended:
        document = extended.get("/openapi.json").json()
    assert dangling(document) == set()
    after = document["components"]["schemas"]
    listing_names = {"Extension", "SolveRequest", "StrategyChoice"}
    assert {name for name in before if after[name] != before[name]} == listing_names
    assert set(after) - set(before) == {f"{name}.{named[name]}" for name in named}
    choices = document["components"]["schemas"]["StrategyChoice"]["oneOf"]
    refs = {choice["properties"]["params"]["$ref"] for choice in choices}
    assert len(refs) == len(choices)
    assert ref("ChatRequest")["$ref"] not in refs


def ref(model: str) -> Json:
    return {"$ref": f"#/components/schemas/{model}"}


def dangling(document: Json) -> set[str]:
    """Schemas that are referenced but not defined."""
    named = re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document))
    return set(named) - set(document["components"]["schemas"])
