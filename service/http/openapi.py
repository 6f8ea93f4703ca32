"""The OpenAPI document of the service.

The routes validate bodies and render responses without FastAPI, so the schemas of both are added here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from secondpass.service.http import response_models
from secondpass.service.http.access.browser_rules import OPEN_PATHS
from secondpass.service.http.chat_schema import ChatRequest
from secondpass.service.http.problems import OPENAI_PATHS
from secondpass.service.http.schema import SolveRequest, StrategyChoice
from secondpass.service.http.state import Service
from secondpass.strategies import STRATEGIES

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_DOCSTRING_SECTION = re.compile(r"\n\n(?:Args|Attributes|Raises|Returns):.*", re.DOTALL)
"""Sections of Google-style docstrings, which are for readers of the code."""
_KEY = "apiKey"
_BODIES: Mapping[str, type[BaseModel]] = {
    "/solve": SolveRequest,
    "/v1/chat/completions": ChatRequest,
}
_RESPONSES: Mapping[str, type[BaseModel]] = {
    "/solve": response_models.Answer,
    "/v1/chat/completions": response_models.ChatCompletion,
    "/v1/models": response_models.ModelList,
    "/v1/models/{model}": response_models.ModelCard,
    "/strategies": response_models.StrategyList,
    "/readyz": response_models.Readiness,
}
_STREAMS = {
    "/solve": "Events run.started, call.started, call.delta (only with a full trace), call.finished, candidate, verdict, "
    "note and answer.delta. The last event is run.finished (an Answer) or error (a Problem). "
    "Comments keep the connection alive.",
    "/v1/chat/completions": "OpenAI's chunks, then [DONE]",
}


def build_document(app: FastAPI, service: Service) -> Json:
    """Build the OpenAPI document on the first call and cache it in `app`."""
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
        document["security"] = [{}] if service.tenants.is_open else [{_KEY: []}]
        app.openapi_schema = document
    return app.openapi_schema


def merge_documents(other: Json, own: Json) -> Json:
    """Merge the documents of two applications that share an address.

    The routes of `own` take precedence, and its schemas get the prefix `Secondpass`.
    """
    renamed = json.loads(
        json.dumps(own).replace(_REF.format(model=""), _REF.format(model="Secondpass"))
    )
    components = dict(other.get("components", {}))
    components["schemas"] = components.get("schemas", {}) | {
        f"Secondpass{name}": schema for name, schema in renamed["components"]["schemas"].items()
    }
    return other | {"paths": other["paths"] | renamed["paths"], "components": components}


def _responses(path: str) -> dict[str, Any]:
    """Responses of the route at `path`, including its errors."""
    content: Json = {"text/plain": {"schema": {"type": "string"}}}
    if path in _RESPONSES:
        content = {"application/json": {"schema": _ref(_RESPONSES[path])}}
    if path in _STREAMS:
        content["text/event-stream"] = {"schema": {"type": "string", "description": _STREAMS[path]}}
    responses: Json = {"200": {"description": "Successful response", "content": content}}
    if path == "/readyz":
        responses["503"] = {"description": "The service does not accept work", "content": content}
    if path in OPEN_PATHS:
        return responses
    is_openai = path.startswith(OPENAI_PATHS)
    error = response_models.OpenAIError if is_openai else response_models.Problem
    kind = "application/json" if is_openai else "application/problem+json"
    errors = {"4XX": "The request was rejected, or the run found no answer within its budget"}
    if path in _BODIES:
        errors["5XX"] = "An engine failed, the deadline passed, or the service does not accept work"
    return responses | {
        status: {"description": description, "content": {kind: {"schema": _ref(error)}}}
        for status, description in errors.items()
    }


def _body(path: str, model: str) -> Json:
    examples = _chat_examples(model) if path.startswith(OPENAI_PATHS) else _solve_examples()
    named = {name: {"value": value} for name, value in examples.items()}
    content = {"schema": _ref(_BODIES[path]), "examples": named}
    return {"required": True, "content": {"application/json": content}}


def _solve_examples() -> dict[str, Json]:
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


def _chat_examples(model: str) -> dict[str, Json]:
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
        *_RESPONSES.values(),
        response_models.Problem,
        response_models.OpenAIError,
    ]
    models += [strategy.params for strategy in STRATEGIES.values() if strategy.is_ours]
    refs, found = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    schemas: Json = found["$defs"]
    params = {}
    for name, strategy in STRATEGIES.items():
        if strategy.is_ours:
            # Pydantic makes longer names for params classes of the same name.
            params[name] = refs[strategy.params, "validation"]
        else:
            # Other distributions choose their class names freely, so the strategy's name is prefixed.
            template = _REF.format(model=f"{name}.{{model}}")
            own, found = models_json_schema(
                [(strategy.params, "validation")], ref_template=template
            )
            schemas |= {f"{name}.{model}": schema for model, schema in found["$defs"].items()}
            params[name] = own[strategy.params, "validation"]
    schemas[StrategyChoice.__name__] = _choices(params)
    chat = schemas[ChatRequest.__name__]
    chat["additionalProperties"] = True  # plain requests are forwarded with any fields
    chat["properties"]["stop"]["anyOf"].append({"type": "string"})
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = _DOCSTRING_SECTION.sub("", schema["description"])
    return schemas


def _choices(params: Mapping[str, Json]) -> Json:
    """Schema of a strategy with its own params.

    The validator accepts any params here, because strategies are registered at run time.
    """
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
