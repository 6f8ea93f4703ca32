"""The request of POST /solve, and validation errors that name the invalid field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidationError,
)
from pydantic_core import CoreSchema

from secondpass.service.common.client_messages import ClientMessages
from secondpass.service.common.errors import InvalidRequest
from secondpass.service.common.limits import RequestBudget
from secondpass.service.common.locations import explain
from secondpass.service.common.validation import shorten_name
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.values import Role, Sampling

MAX_MEMBERS = 1024
"""Maximum members of an object in a request with a strategy. Each unknown member is an error."""

TraceLevel = Literal["none", "summary", "full"]


M = TypeVar("M", bound=BaseModel)


_Path: TypeAlias = tuple[Any, str | int]
"""A path in a request: the path of the container, or None, and the name or position in it."""


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
    messages: ClientMessages | None = Field(
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
    """
    _check_members(value, at)
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        path, message = explain(error, model)
        field = ".".join(part for part in (at, *path) if part)
        raise InvalidRequest(message, field=shorten_name(field) or "body") from error


def _check_members(value: Any, at: str) -> None:
    """Raise InvalidRequest if an object has more than MAX_MEMBERS members."""
    rest: list[tuple[_Path, Any]] = [((None, at), value)]
    while rest:
        path, each = rest.pop()
        if isinstance(each, dict) and len(each) > MAX_MEMBERS:
            raise InvalidRequest(
                f"takes at most {MAX_MEMBERS} members, got {len(each)}",
                field=shorten_name(_field(path)) or "body",
            )
        members = each.items() if isinstance(each, dict) else enumerate(each)
        rest += [((path, key), m) for key, m in members if isinstance(m, dict | list)]


def _field(path: _Path | None) -> str:
    """Return the names and positions on a path, joined with dots."""
    parts: list[str] = []
    while path is not None:
        path, name = path
        parts.append(shorten_name(str(name)))
    return ".".join(filter(None, reversed(parts)))
