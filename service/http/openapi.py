"""The OpenAPI document: bodies are read by our own strict reader, so their schemas are added here."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from secondpass.service.http.chat_schema import ChatRequest
from secondpass.service.http.problems import OPENAI_PATHS
from secondpass.service.http.schema import SolveRequest, StrategyChoice
from secondpass.strategies import STRATEGIES

_REF = "#/components/schemas/{model}"
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details; `field` names the culprit where there is one",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
    },
    "required": ["type", "title", "status", "code", "detail"],
}
_OPENAI_ERROR = {
    "type": "object",
    "description": "OpenAI's error object; `param` names the culprit where there is one",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}


def takes(model: str) -> dict[str, Any]:
    """What a route says of a body that is a `model`."""
    schema = {"$ref": _REF.format(model=model)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def gives(path: str) -> dict[int | str, dict[str, Any]]:
    """What the route at `path` answers, and how it words an error."""
    is_openai = path.startswith(OPENAI_PATHS)
    kind = "application/json" if is_openai else "application/problem+json"
    schema = {"$ref": _REF.format(model="OpenAIError" if is_openai else "Problem")}
    return {
        200: {
            "description": "The answer; server-sent events where `stream` is true",
            "content": {"application/json": {}, "text/event-stream": {}},
        },
        "4XX": {
            "description": "Nothing was started, or the budget held no answer",
            "content": {kind: {"schema": schema}},
        },
        "5XX": {
            "description": "The engine failed, the deadline passed, or no work is taken now",
            "content": {kind: {"schema": schema}},
        },
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        bodies: list[type[BaseModel]] = [SolveRequest, ChatRequest]
        bodies += [strategy.params for strategy in STRATEGIES.values()]
        _, schemas = models_json_schema(
            [(model, "validation") for model in bodies], ref_template=_REF
        )
        components = document.setdefault("components", {}).setdefault("schemas", {})
        components |= schemas["$defs"] | {"Problem": _PROBLEM, "OpenAIError": _OPENAI_ERROR}
        components[StrategyChoice.__name__] = _choices()
        app.openapi_schema = document
    return app.openapi_schema


def _choices() -> dict[str, Any]:
    """A strategy with its own parameters: for the reader that is one schema, as the name is only known at run time."""
    return {
        "description": StrategyChoice.__doc__,
        "oneOf": [
            {
                "type": "object",
                "title": name,
                "description": strategy.summary,
                "properties": {
                    "name": {"const": name},
                    "params": {"$ref": _REF.format(model=strategy.params.__name__)},
                },
                "required": ["name"],
                "additionalProperties": False,
            }
            for name, strategy in STRATEGIES.items()
        ],
    }
