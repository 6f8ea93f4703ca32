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
from secondpass.service.common.client_messages import ClientMessage
from secondpass.service.common.errors import InvalidRequest, Malformed, excerpt
from secondpass.service.common.limits import RequestBudget
from secondpass.service.common.locations import locate
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.values import Role, Sampling

TraceLevel = Literal["none", "summary", "full"]

_NAME_LIMIT = 60  # an OpenAI error object may contain the name of a field three times
_MAX_NEAREST = 12
_MAX_LISTED = 40
_RULE = "must be "

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
    messages: tuple[ClientMessage, ...] | None = Field(
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
    budget: RequestBudget = Field(
        default=RequestBudget(),
        description="limits of the run; absent ones take the operator's defaults",
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
        raise _deepest_error(error, model, at) from error


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


def _deepest_error(error: ValidationError, model: type[BaseModel], at: str) -> InvalidRequest:
    """Convert the errors with the deepest path, which for a union are in the branch that was meant."""
    located = [_located(details, model) for details in error.errors(include_url=False)]
    deepest = max((path for path, _ in located), key=len)
    messages = dict.fromkeys(message for path, message in located if path == deepest)
    field = ".".join(part for part in (at, *deepest) if part)
    return InvalidRequest(_joined(tuple(messages)), field=shorten_name(field) or "body")


def _located(details: ErrorDetails, model: type[BaseModel]) -> tuple[tuple[str, ...], str]:
    """Return the path and the message of an error.

    The message of a validator of several fields begins with the name of the invalid one.
    """
    place = locate(model, details["loc"])
    path, kind = place.path, details["type"]
    if kind == "extra_forbidden":
        return path, unknown_name(path[-1], place.siblings, "field")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        context = details["ctx"]
        field, tags = context["discriminator"].strip("'"), context.get("expected_tags")
        return (*path, field), "is missing" if tags is None else f"must be one of {tags}"
    if details["loc"][-1:] == ("[key]",):  # the value is the key, which the path contains
        return path, excerpt(validation.message(details))
    message = excerpt(validation.message_with_value(details))
    name = message.partition(":")[0]
    is_named = kind == "value_error" and name in place.fields
    return (*path, name) if is_named else path, message


def _joined(messages: Sequence[str]) -> str:
    """Join the messages of the branches of a union, for example "must be a string or a list, not 5"."""
    if not all(message.startswith(_RULE) for message in messages):
        return messages[0]
    *others, last = (message.removeprefix(_RULE) for message in messages)
    return _RULE + " or ".join((*(each.partition(", not ")[0] for each in others), last))
