"""What judges and critics reply with, as shapes; and reading those shapes strictly, without guessing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from secondpass.strategies.api.errors import VerdictUnreadable

M = TypeVar("M", bound=BaseModel)

_SHOWN = 80
_Remark = Annotated[str, Field(max_length=600)]


class ReplySchema(BaseModel):
    """The base of every shape: frozen, and every field is demanded. Reasons stand before the verdict that they are for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Feedback(ReplySchema):
    """What could be better about a solution, and whether it is worth another version."""

    issues: list[_Remark] = Field(max_length=8, description="what is wrong, and where")
    verdict: Literal["ok", "revise"]


class Critique(ReplySchema):
    """Whether a solution is right; `first_wrong_step` counts from 1, None when no step is wrong."""

    issues: list[_Remark] = Field(max_length=8, description="what is wrong, and where")
    first_wrong_step: int | None = Field(ge=1)
    verdict: Literal["correct", "wrong"]


def example_of(shape: type[BaseModel]) -> str:
    """The shape as a line of JSON with a placeholder for each value, for a prompt."""
    schema = shape.model_json_schema()
    return json.dumps(_example(schema, schema.get("$defs", {})), ensure_ascii=False)


def _example(schema: dict[str, Any], parts: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _example(parts[schema["$ref"].rsplit("/", 1)[-1]], parts)
    if "enum" in schema or "const" in schema:
        return " | ".join(map(str, schema.get("enum", [schema.get("const")])))
    if "anyOf" in schema:
        return " | ".join(str(_example(option, parts)) for option in schema["anyOf"])
    if schema.get("type") == "object":
        fields = schema.get("properties", {})
        return {name: _example(field, parts) for name, field in fields.items()}
    if schema.get("type") == "array":
        return [_example(schema.get("items", {"type": "string"}), parts), "..."]
    return schema.get("type", "string")


def parse_reply(text: str, shape: type[M]) -> M:
    """The first JSON object in a reply, as `shape`. Raises VerdictUnreadable, also for one key given twice."""
    raw = first_object(text)
    try:
        return shape.model_validate_json(json.dumps(json.loads(raw, object_pairs_hook=unique_keys)))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise VerdictUnreadable(f"{shape.__name__}.{where}: {problem['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise VerdictUnreadable(f"{shape.__name__}: {error}") from error


def first_object(text: str) -> str:
    """The first balanced `{...}` of a text; braces inside JSON strings do not count. Raises VerdictUnreadable."""
    begin = text.find("{")
    if begin < 0:
        raise VerdictUnreadable(f"no JSON object in {_excerpt(text)}")
    depth, is_string, is_escaped = 0, False, False
    for at in range(begin, len(text)):
        character = text[at]
        if is_string:
            is_string = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == '"':
            is_string = True
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return text[begin : at + 1]
    raise VerdictUnreadable(f"a JSON object that does not end: {_excerpt(text[begin:])}")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for `object_pairs_hook`. Raises ValueError for a key that is given twice."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key is given twice")
    return found


_LEAD = re.compile(
    r"^(?:(?:the|my|final)\s+)*(?:verdict|answer|label|judge?ment|reply)\s*(?:is\s*)?[:=]?\s+",
    re.IGNORECASE,
)
_DECORATION = " \t*_`\"'.,;:!()[]{}<>#"


def parse_label(text: str, labels: Sequence[str]) -> str:
    """The label that a reply's last line consists of, in any case and decoration. Raises VerdictUnreadable.

    A line that holds anything else, a second label for instance, is no verdict, however it may be meant.
    """
    lines = [line for line in text.splitlines() if line.strip(_DECORATION)]
    said = lines[-1].strip(_DECORATION) if lines else ""
    for reading in (said, _LEAD.sub("", said).strip(_DECORATION)):
        for label in labels:
            if reading.casefold() == label.strip(_DECORATION).casefold():
                return label
    raise VerdictUnreadable(f"none of {', '.join(labels)}: {_excerpt(said or text)}")


def label_schema(labels: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of a reply that is nothing but one of the labels."""
    return {
        "type": "object",
        "properties": {"verdict": {"type": "string", "enum": list(labels)}},
        "required": ["verdict"],
        "additionalProperties": False,
    }


def parse_label_object(text: str, labels: Sequence[str]) -> str:
    """The label in a reply to `label_schema`. Raises VerdictUnreadable."""
    try:
        found = json.loads(first_object(text), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise VerdictUnreadable(f"{error}: {_excerpt(text)}") from error
    if found.keys() == {"verdict"} and found["verdict"] in labels:
        return str(found["verdict"])
    raise VerdictUnreadable(f"none of {', '.join(labels)}: {_excerpt(text)}")


_SCORES = re.compile(r"\\boxed\s*\{([^{}]*)\}|\[([^\[\]{}]*)\]")


def parse_scores(text: str, n: int, *, lowest: int = 1, highest: int = 10) -> tuple[int, ...]:
    r"""The `n` whole scores of a reply's last line that holds a list, `\boxed{7, 3}` or `[7, 3]`.

    Raises VerdictUnreadable for another number of scores, and for one that is not from `lowest` to `highest`.
    """
    found = list(_SCORES.finditer(text))
    if not found:
        raise VerdictUnreadable(f"no list of scores in {_excerpt(text)}")
    inner = found[-1][1] if found[-1][1] is not None else found[-1][2]
    pieces = [piece.strip() for piece in inner.split(",")]
    if len(pieces) != n or not all(piece.isascii() and piece.isdigit() for piece in pieces):
        raise VerdictUnreadable(f"not {n} whole scores: {_excerpt(inner)}")
    scores = tuple(map(int, pieces))
    if not all(lowest <= score <= highest for score in scores):
        raise VerdictUnreadable(f"scores go from {lowest} to {highest}: {_excerpt(inner)}")
    return scores


def _excerpt(text: str) -> str:
    shown = " ".join(text.split())
    return repr(shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "...")
