"""The OpenAPI document: bodies are read by our own strict reader and replies written by hand, so it is told of both here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from secondpass.service.http import response_models
from secondpass.service.http.chat_schema import ChatRequest
from secondpass.service.http.middleware import OPEN_PATHS
from secondpass.service.http.problems import OPENAI_PATHS
from secondpass.service.http.schema import SolveRequest, StrategyChoice
from secondpass.service.http.state import Service
from secondpass.strategies import STRATEGIES

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_KEY = "apiKey"
_BODIES: Mapping[str, type[BaseModel]] = {
    "/solve": SolveRequest,
    "/v1/chat/completions": ChatRequest,
}
_REPLIES: Mapping[str, type[BaseModel]] = {
    "/solve": response_models.Answer,
    "/v1/chat/completions": response_models.ChatCompletion,
    "/v1/models": response_models.ModelList,
    "/strategies": response_models.StrategyList,
    "/readyz": response_models.Readiness,
}
_STREAMS = {
    "/solve": "Events named run.started, call.started, call.delta (with a full trace), call.finished, candidate, verdict, "
    "note, answer.delta, and at the end run.finished (an Answer) or error (a Problem); comments hold the connection open",
    "/v1/chat/completions": "OpenAI's chunks, then [DONE]",
}


def describe(app: FastAPI, service: Service) -> Json:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["operationId"] = operation["summary"].lower()
                operation["responses"] = _responses(path)
                if path in OPEN_PATHS:
                    operation["security"] = []
                if path in _BODIES:
                    operation["requestBody"] = _body(path, service.roles["actor"].engine.model)
        document["components"] = {
            "schemas": _schemas(),
            "securitySchemes": {_KEY: {"type": "http", "scheme": "bearer"}},
        }
        document["security"] = [{}] if service.tenants.are_everybody else [{_KEY: []}]
        app.openapi_schema = document
    return app.openapi_schema


def merged(theirs: Json, ours: Json) -> Json:
    """One document of two applications behind one address, of which ours answers first; our schemas get names of their own."""
    renamed = json.loads(
        json.dumps(ours).replace(_REF.format(model=""), _REF.format(model="Secondpass"))
    )
    components = dict(theirs.get("components", {}))
    components["schemas"] = components.get("schemas", {}) | {
        f"Secondpass{name}": schema for name, schema in renamed["components"]["schemas"].items()
    }
    return theirs | {"paths": theirs["paths"] | renamed["paths"], "components": components}


def _responses(path: str) -> dict[str, Any]:
    """What the route at `path` answers, and how it words an error."""
    content: Json = {"text/plain": {"schema": {"type": "string"}}}
    if path in _REPLIES:
        content = {"application/json": {"schema": _ref(_REPLIES[path])}}
    if path in _STREAMS:
        content["text/event-stream"] = {"schema": {"type": "string", "description": _STREAMS[path]}}
    responses: Json = {"200": {"description": "The reply", "content": content}}
    if path == "/readyz":
        responses["503"] = {"description": "It takes no work", "content": content}
    if path in OPEN_PATHS:
        return responses
    is_openai = path.startswith(OPENAI_PATHS)
    error = response_models.OpenAIError if is_openai else response_models.Problem
    kind = "application/json" if is_openai else "application/problem+json"
    errors = {"4XX": "Nothing was started, or the budget held no answer"}
    if path in _BODIES:
        errors["5XX"] = "The engine failed, the deadline passed, or no work is taken now"
    return responses | {
        status: {"description": says, "content": {kind: {"schema": _ref(error)}}}
        for status, says in errors.items()
    }


def _body(path: str, model: str) -> Json:
    examples = _chats(model) if path.startswith(OPENAI_PATHS) else _solves()
    named = {name: {"value": value} for name, value in examples.items()}
    content = {"schema": _ref(_BODIES[path]), "examples": named}
    return {"required": True, "content": {"application/json": content}}


def _solves() -> dict[str, Json]:
    question = "What is 6 times 7?"
    strategy = {"name": "self_consistency", "params": {"n": 5}}
    budget = {"max_tokens": 4000, "deadline_ms": 60_000}
    conversation = [{"role": "user", "content": "Which is prime?"}]
    choice = {"kind": "choice", "options": ["21", "23", "27"]}
    return {
        "question": {"question": question},
        "vote": {"question": question, "strategy": strategy, "budget": budget},
        "choice": {"messages": conversation, "task": choice, "trace": "summary"},
    }


def _chats(model: str) -> dict[str, Json]:
    messages = [{"role": "user", "content": "What is 6 times 7?"}]
    strategy = {"strategy": "self_consistency", "params": {"n": 5}}
    return {
        "plain": {"model": model, "messages": messages},
        "suffix": {"model": f"{model}@self_consistency", "messages": messages},
        "body": {"model": model, "messages": messages, "secondpass": strategy},
    }


def _schemas() -> Json:
    models: list[type[BaseModel]] = [
        *_BODIES.values(),
        *_REPLIES.values(),
        response_models.Problem,
        response_models.OpenAIError,
    ]
    models += [strategy.params for strategy in STRATEGIES.values() if strategy.is_ours]
    refs, found = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    schemas: Json = found["$defs"]
    params = {}
    for name, strategy in STRATEGIES.items():
        if strategy.is_ours:
            # Two strategies may give their params the same class name; pydantic then makes longer names.
            params[name] = refs[strategy.params, "validation"]
        else:
            # Other distributions choose the names of their classes, so these are named apart from ours.
            template = _REF.format(model=f"{name}.{{model}}")
            own, found = models_json_schema(
                [(strategy.params, "validation")], ref_template=template
            )
            schemas |= {f"{name}.{model}": schema for model, schema in found["$defs"].items()}
            params[name] = own[strategy.params, "validation"]
    schemas[StrategyChoice.__name__] = _choices(params)
    chat = schemas[ChatRequest.__name__]
    chat["additionalProperties"] = True  # they go through untouched where no strategy is named
    chat["properties"]["stop"]["anyOf"].append({"type": "string"})
    return schemas


def _choices(params: Mapping[str, Json]) -> Json:
    """A strategy with its own parameters: for the reader that is one schema, as the name is only known at run time."""
    return {
        "description": StrategyChoice.__doc__,
        "oneOf": [
            {
                "type": "object",
                "title": name,
                "description": strategy.summary,
                "properties": {"name": {"const": name}, "params": params[name]},
                "required": ["name"],
                "additionalProperties": False,
            }
            for name, strategy in STRATEGIES.items()
        ],
    }


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": _REF.format(model=model.__name__)}
