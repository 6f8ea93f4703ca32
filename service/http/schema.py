"""What POST /solve takes, and how any wrong value is turned into an error that names its field."""

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

from secondpass.service.common.errors import InvalidRequest, Malformed, excerpt
from secondpass.service.common.limits import Limits
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.params import Params
from secondpass.strategies.api.values import Message, Role, Sampling

TraceLevel = Literal["none", "summary", "full"]

_FIELD_LIMIT = 60  # OpenAI's error objects may name a field three times
_NEAREST = 12
_LISTED = 40
_AT_ABSENT = ("missing", "value_error")
"""Problems that may lie at a field which the request does not have."""

_SIZES = {
    "too_short": "must have at least {min_length}, not {actual_length}",
    "too_long": "may have at most {max_length}, not {actual_length}",
}
"""pydantic would speak of Python's tuples."""

M = TypeVar("M", bound=BaseModel)


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StrategyChoice(_Request):
    """A strategy and its parameters; GET /strategies has the schema of each."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


def _shape(value: Any) -> str:
    return "name" if isinstance(value, str) else "object"


class _StrategyName:
    """Lists the registered strategies in the schema, when the schema is made."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "enum": list(STRATEGIES)}


Strategy = Annotated[
    Annotated[str, Tag("name"), _StrategyName] | Annotated[StrategyChoice, Tag("object")],
    Discriminator(_shape),
]


class SolveRequest(_Request):
    """One question, and how it shall be answered. Exactly one of `question` and `messages` is given."""

    question: str | None = Field(default=None, description="the question as text")
    messages: tuple[Message, ...] | None = Field(
        default=None, description="the question as a conversation in OpenAI's shape"
    )
    strategy: Strategy | None = Field(
        default=None, description="a name, or a name and params; see GET /strategies"
    )
    task: TaskRequest | None = Field(
        default=None, description="how answers are extracted and compared; guessed by default"
    )
    models: dict[Role, str] = Field(
        default_factory=dict, description="models by role; see GET /v1/models"
    )
    sampling: Sampling = Field(default=Sampling(), description="of the actor's calls")
    budget: Limits = Field(default=Limits(), description="what the run may spend at most")
    stream: bool = Field(default=False, description="server-sent events instead of one JSON")
    trace: TraceLevel = Field(default="none", description="how much of the run comes back")
    background: bool = Field(default=False, description="not supported yet")


def read(model: type[M], value: Mapping[str, Any], *, at: str = "") -> M:
    """`value`, decoded from JSON, as a `model`: strictly typed. Raises InvalidRequest; its field begins with `at`."""
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            raise Malformed("the body's JSON is nested too deeply", field="body") from error
        raise _worst(error, model, value, at) from error


def choose(value: str, allowed: Iterable[str], what: str) -> str:
    """How to say that `value` is none of `allowed`."""
    allowed = sorted(allowed)
    near = get_close_matches(value[:_FIELD_LIMIT], allowed, n=_NEAREST, cutoff=0.5)
    listed = ", ".join(allowed if len(allowed) <= _LISTED else near or [*allowed[:_LISTED], "…"])
    return f"there is no {what} {excerpt_of(value)!r}; allowed: {listed}"


def excerpt_of(text: str) -> str:
    """As much of a name from a request as an error repeats."""
    return text if len(text) <= _FIELD_LIMIT else text[: _FIELD_LIMIT - 1] + "…"


def _worst(
    error: ValidationError, model: type[BaseModel], value: Mapping[str, Any], at: str
) -> InvalidRequest:
    """The problem that lies deepest: of a union's branches it is the one that was meant."""
    problems = error.errors(include_url=False, include_input=False)
    paths = [_path(problem, value) for problem in problems]
    deepest = max(range(len(problems)), key=lambda i: len(paths[i]))
    path, problem = paths[deepest], problems[deepest]
    field = ".".join(part for part in (at, *path) if part)
    return InvalidRequest(_detail(problem, path, model), field=excerpt_of(field) or "body")


def _path(problem: ErrorDetails, value: Any) -> list[str]:
    """Where the problem is in `value`: pydantic's location without the names of union branches."""
    path: list[str] = []
    location = problem["loc"]
    for position, part in enumerate(location):
        is_there = (
            part in value
            if isinstance(value, Mapping)
            else isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if is_there:
            value = value[part]
            path.append(str(part))
        elif problem["type"] in _AT_ABSENT and position == len(location) - 1:
            path.append(str(part))
    return path


def _detail(problem: ErrorDetails, path: Sequence[str], model: type[BaseModel]) -> str:
    if problem["type"] == "extra_forbidden":
        if len(path) > 1:
            return "there is no such field here"
        known = model.all_fields() if issubclass(model, Params) else model.model_fields
        return choose(path[-1], known, "field")
    if problem["type"] == "missing":
        return "is missing"
    if problem["type"] == "union_tag_invalid":
        context = problem.get("ctx", {})
        return f"{context.get('discriminator')} must be one of {context.get('expected_tags')}"
    if problem["type"] in _SIZES:
        return _SIZES[problem["type"]].format(**problem["ctx"])
    return excerpt(problem["msg"].removeprefix("Value error, "))
