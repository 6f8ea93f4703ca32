"""The request of POST /solve, and validation errors that name the invalid field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidationError,
)
from pydantic_core import CoreSchema, ErrorDetails

from secondpass.service.common import validation
from secondpass.service.common.errors import InvalidRequest, Malformed, excerpt
from secondpass.service.common.limits import Limits
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.params import Params
from secondpass.strategies.api.values import Message, Role, Sampling

TraceLevel = Literal["none", "summary", "full"]

_NAME_LIMIT = 60  # an OpenAI error object may contain the name of a field three times
_MAX_NEAREST = 12
_MAX_LISTED = 40
_ABSENT_FIELD_ERRORS = ("missing", "value_error")
"""Types of pydantic errors whose location may be a field that is absent from the request."""

M = TypeVar("M", bound=BaseModel)


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StrategyChoice(_Request):
    """A strategy and its params. GET /strategies returns the schema of each strategy's params."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


def _strategy_tag(value: Any) -> str:
    return "name" if isinstance(value, str) else "object"


class _StrategyName:
    """Adds the names of the registered strategies to the JSON schema when it is generated."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "enum": list(STRATEGIES)}


Strategy = Annotated[
    Annotated[str, Tag("name"), _StrategyName] | Annotated[StrategyChoice, Tag("object")],
    Discriminator(_strategy_tag),
]


class SolveRequest(_Request):
    """A question and the options of its run. Exactly one of `question` and `messages` is required."""

    question: str | None = Field(default=None, description="question as plain text")
    messages: tuple[Message, ...] | None = Field(
        default=None, description="question as a conversation in OpenAI's message format"
    )
    strategy: Strategy | None = Field(
        default=None,
        description="name of a strategy, or an object with name and params; see GET /strategies",
    )
    task: TaskRequest | None = Field(
        default=None,
        description="how answers are extracted and compared; guessed from the question if absent",
    )
    models: dict[Role, str] = Field(
        default_factory=dict, description="model of each role; see GET /v1/models"
    )
    sampling: Sampling = Field(
        default=Sampling(), description="sampling parameters of the actor's calls"
    )
    budget: Limits = Field(
        default=Limits(), description="limits of the run; absent ones take the operator's defaults"
    )
    stream: bool = Field(
        default=False, description="return server-sent events instead of one JSON document"
    )
    trace: TraceLevel = Field(
        default="none",
        description="'summary' adds candidates, calls and verdicts; 'full' also prompts and texts",
    )
    background: bool = Field(default=False, description="not supported yet; must be false")


def validate(model: type[M], value: Mapping[str, Any], *, at: str = "") -> M:
    """Validate `value`, decoded from JSON, against `model`, with strict types.

    `at` is the path of `value` in the request and prefixes the field that an error names.

    Raises:
        InvalidRequest: A field is invalid.
        Malformed: The JSON is nested too deeply.
    """
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            raise Malformed("the body's JSON is nested too deeply", field="body") from error
        raise _deepest_error(error, model, value, at) from error


def unknown_name(value: str, allowed: Iterable[str], kind: str) -> str:
    """Return the message for an unknown name, with the allowed names or the nearest of many."""
    allowed = sorted(allowed)
    nearest = get_close_matches(value[:_NAME_LIMIT], allowed, n=_MAX_NEAREST, cutoff=0.5)
    listed = ", ".join(
        allowed if len(allowed) <= _MAX_LISTED else nearest or [*allowed[:_MAX_LISTED], "…"]
    )
    return f"unknown {kind} {shorten_name(value)!r}; allowed: {listed}"


def shorten_name(text: str) -> str:
    """Shorten a name from a request to the length that an error may repeat."""
    return text if len(text) <= _NAME_LIMIT else text[: _NAME_LIMIT - 1] + "…"


def _deepest_error(
    error: ValidationError, model: type[BaseModel], value: Mapping[str, Any], at: str
) -> InvalidRequest:
    """Convert the error with the deepest path, which for a union is in the branch that was meant."""
    errors = error.errors(include_url=False)
    paths = [_path(details, value) for details in errors]
    deepest = max(range(len(errors)), key=lambda i: len(paths[i]))
    path, details = paths[deepest], errors[deepest]
    field = ".".join(part for part in (at, *path) if part)
    return InvalidRequest(_message(details, path, model), field=shorten_name(field) or "body")


def _path(details: ErrorDetails, value: Any) -> list[str]:
    """Return the path of the error in `value`: pydantic's location without union branches."""
    path: list[str] = []
    location = details["loc"]
    for position, part in enumerate(location):
        is_present = (
            part in value
            if isinstance(value, Mapping)
            else isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if is_present:
            value = value[part]
            path.append(str(part))
        elif details["type"] in _ABSENT_FIELD_ERRORS and position == len(location) - 1:
            path.append(str(part))
    return path


def _message(details: ErrorDetails, path: Sequence[str], model: type[BaseModel]) -> str:
    if details["type"] == "extra_forbidden":
        if len(path) > 1:
            return "unknown field"
        known = model.all_fields() if issubclass(model, Params) else model.model_fields
        return unknown_name(path[-1], known, "field")
    if details["type"] == "union_tag_invalid":
        context = details.get("ctx", {})
        return f"{context.get('discriminator')} must be one of {context.get('expected_tags')}"
    if details["loc"][-1:] == ("[key]",):  # the value is the key, which `field` contains
        return excerpt(validation.message(details))
    return excerpt(validation.message_with_value(details))
