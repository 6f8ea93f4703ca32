"""Schemas of the replies of judges and critics, and strict parsers for them.

A reply that does not match exactly raises VerdictUnreadable. Parsers never guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from secondpass.strategies.api.errors import VerdictUnreadable

M = TypeVar("M", bound=BaseModel)

_EXCERPT_CHARACTERS = 80
_Issue = Annotated[str, Field(max_length=600)]


class ReplySchema(BaseModel):
    """Base class of reply schemas: frozen, all fields required, no extra fields.

    Fields that contain reasons precede the verdict, because engines generate fields in schema
    order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _sent_description(text: str) -> ConfigDict:
    """Fix a schema's `description`, which is otherwise the docstring.

    Engines receive it with the schema, and it enters the digest by which recorded replies are
    found.
    """
    return ConfigDict(json_schema_extra={"description": text})


class Feedback(ReplySchema):
    """Review of a solution: its issues, and the verdict on whether to revise it."""

    model_config = _sent_description(
        "What could be better about a solution, and whether it is worth another version."
    )

    issues: list[_Issue] = Field(max_length=8, description="what is wrong, and where")
    verdict: Literal["ok", "revise"]


class Critique(ReplySchema):
    """Verdict on a solution, with its issues and its first wrong step (from 1; None if no step is wrong)."""

    model_config = _sent_description(
        "Whether a solution is right; `first_wrong_step` counts from 1, None when no step is wrong."
    )

    issues: list[_Issue] = Field(max_length=8, description="what is wrong, and where")
    first_wrong_step: int | None = Field(ge=1)
    verdict: Literal["correct", "wrong"]


def example_of(shape: type[BaseModel]) -> str:
    """Return an example of the schema for a prompt: one line of JSON with a placeholder per value."""
    schema = shape.model_json_schema()
    return json.dumps(_example(schema, schema.get("$defs", {})), ensure_ascii=False)


def _example(schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _example(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    if "enum" in schema or "const" in schema:
        return " | ".join(map(str, schema.get("enum", [schema.get("const")])))
    if "anyOf" in schema:
        return " | ".join(str(_example(option, definitions)) for option in schema["anyOf"])
    if schema.get("type") == "object":
        fields = schema.get("properties", {})
        return {name: _example(field, definitions) for name, field in fields.items()}
    if schema.get("type") == "array":
        return [_example(schema.get("items", {"type": "string"}), definitions), "..."]
    return schema.get("type", "string")


def parse_reply(text: str, shape: type[M]) -> M:
    """Parse the first JSON object of a reply as an instance of `shape`.

    Raises VerdictUnreadable without a valid object, and for a duplicate key.
    """
    raw = first_object(text)
    try:
        return shape.model_validate_json(json.dumps(json.loads(raw, object_pairs_hook=unique_keys)))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        path = ".".join(map(str, problem["loc"]))
        raise VerdictUnreadable(f"{shape.__name__}.{path}: {problem['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise VerdictUnreadable(f"{shape.__name__}: {error}") from error


def first_object(text: str) -> str:
    """Return the first balanced `{...}` of a text, ignoring braces inside JSON strings.

    Raises VerdictUnreadable if the text contains no such object.
    """
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
    raise VerdictUnreadable(f"unterminated JSON object: {_excerpt(text[begin:])}")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build the object of these pairs, as an `object_pairs_hook`. Raises ValueError for a duplicate key."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("duplicate key")
    return found


_LABEL_PREFIX = re.compile(
    r"^(?:(?:the|my|final)\s+)*(?:verdict|answer|label|judge?ment|reply)\s*(?:is\s*)?[:=]?\s+",
    re.IGNORECASE,
)
_DECORATION = " \t*_`\"'.,;:!()[]{}<>#"


def parse_label(text: str, labels: Sequence[str]) -> str:
    """Parse the last non-empty line of a reply as one of `labels`.

    Case, surrounding punctuation and a prefix such as "Verdict:" are ignored. Raises
    VerdictUnreadable if the line contains anything else, for instance a second label.
    """
    lines = [line for line in text.splitlines() if line.strip(_DECORATION)]
    last = lines[-1].strip(_DECORATION) if lines else ""
    for reply in (last, _LABEL_PREFIX.sub("", last).strip(_DECORATION)):
        for label in labels:
            if reply.casefold() == label.strip(_DECORATION).casefold():
                return label
    raise VerdictUnreadable(f"expected one of {', '.join(labels)}, got {_excerpt(last or text)}")


def label_schema(labels: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of a reply whose only field is `verdict`, one of the labels."""
    return {
        "type": "object",
        "properties": {"verdict": {"type": "string", "enum": list(labels)}},
        "required": ["verdict"],
        "additionalProperties": False,
    }


def parse_label_object(text: str, labels: Sequence[str]) -> str:
    """Parse a reply that follows `label_schema`. Raises VerdictUnreadable."""
    try:
        found = json.loads(first_object(text), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise VerdictUnreadable(f"{error}: {_excerpt(text)}") from error
    if found.keys() == {"verdict"} and found["verdict"] in labels:
        return str(found["verdict"])
    raise VerdictUnreadable(f"expected one of {', '.join(labels)}, got {_excerpt(text)}")


_SCORES = re.compile(r"\\boxed\s*\{([^{}]*)\}|\[([^\[\]{}]*)\]")


def parse_scores(text: str, n: int, *, lowest: int = 1, highest: int = 10) -> tuple[int, ...]:
    r"""Parse the last list of a reply, `\boxed{7, 3}` or `[7, 3]`, as `n` integer scores.

    Raises VerdictUnreadable for a different number of scores, or a score outside `lowest` to
    `highest`.
    """
    found = list(_SCORES.finditer(text))
    if not found:
        raise VerdictUnreadable(f"no list of scores in {_excerpt(text)}")
    inner = found[-1][1] if found[-1][1] is not None else found[-1][2]
    items = [item.strip() for item in inner.split(",")]
    if len(items) != n or not all(item.isascii() and item.isdigit() for item in items):
        raise VerdictUnreadable(f"expected {n} integer scores, got {_excerpt(inner)}")
    scores = tuple(map(int, items))
    if not all(lowest <= score <= highest for score in scores):
        raise VerdictUnreadable(f"scores must be from {lowest} to {highest}, got {_excerpt(inner)}")
    return scores


def _excerpt(text: str) -> str:
    excerpt = " ".join(text.split())
    if len(excerpt) > _EXCERPT_CHARACTERS:
        excerpt = excerpt[:_EXCERPT_CHARACTERS] + "..."
    return repr(excerpt)
