"""Schemas of the replies of judges and critics, and strict parsers for them.

A reply that does not match exactly raises VerdictUnreadable, and so does one with two different verdicts: a judge may
quote the text that it judges. Parsers never guess, and their time is linear.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

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
    """Parse the JSON object of a reply as an instance of `shape`.

    Raises VerdictUnreadable without a valid object, for a duplicate key, and for a second object or verdict that
    differs: one of them may be quoted from the text that was judged.
    """
    raw, rest = only_object(text, shape.__name__)
    try:
        reply = shape.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        path = ".".join(map(str, problem["loc"]))
        raise VerdictUnreadable(f"{shape.__name__}.{path}: {problem['msg']}") from error
    verdict = shape.model_fields.get("verdict")
    _check_stated(rest, raw.get("verdict"), () if verdict is None else get_args(verdict.annotation))
    return reply


_OBJECT = re.compile(r'\{\s*+"(?:[^"\\]|\\.){0,64}+"\s*+:', re.DOTALL)


def only_object(text: str, name: str) -> tuple[dict[str, Any], str]:
    """Return the only JSON object in a text, which may occur repeatedly, and the text around it.

    Braces that do not begin an object with a key, as in prose and in formulas, are ignored. The time is linear.

    Raises VerdictUnreadable for a text without an object, with one that is unterminated or invalid or has a duplicate
    key, or with several that differ. `name` is the expected kind of object.
    """
    found: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    around, end = [], 0
    while match := _OBJECT.search(text, end):
        around.append(text[end : match.start()])
        end = _end_of_object(text, match.start())
        if (raw := text[match.start() : end]) in seen:
            continue
        seen.add(raw)
        try:
            value = json.loads(raw, object_pairs_hook=unique_keys)
            found[json.dumps(value, sort_keys=True)] = value
        except (ValueError, RecursionError) as error:
            raise VerdictUnreadable(f"{name}: {error}: {_excerpt(text)}") from error
        if len(found) > 1:
            raise VerdictUnreadable(f"{name}: different JSON objects in {_excerpt(text)}")
    if not found:
        raise VerdictUnreadable(f"{name}: no JSON object in {_excerpt(text)}")
    return next(iter(found.values())), "\n".join((*around, text[end:]))


_STRING_OR_BRACE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[{}]', re.DOTALL)


def _end_of_object(text: str, begin: int) -> int:
    """Return the end of the object that begins there. Raises VerdictUnreadable if it is unterminated."""
    depth = 0
    for match in _STRING_OR_BRACE.finditer(text, begin):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    raise VerdictUnreadable(f"unterminated JSON object: {_excerpt(text[begin:])}")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build the object of these pairs, as an `object_pairs_hook`. Raises ValueError for a duplicate key."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("duplicate key")
    return found


_LABEL_PREFIX = re.compile(
    r"^(?:(?:the|my|final)\s+)*(?:verdict|answer|label|judge?ment|reply)\s*(?:is\s*)?[:=*_]*\s+",
    re.IGNORECASE,
)
_MAX_LABEL_LINE = 200
_DECORATION = " \t*_`\"'.,;:!()[]{}<>#"


def parse_label(text: str, labels: Sequence[str]) -> str:
    """Parse the last non-empty line of a reply as one of `labels`.

    Case, surrounding punctuation and a prefix such as "Verdict:" are ignored. Raises VerdictUnreadable if the line
    contains anything else, for instance a second label, and if an earlier line is another label.
    """
    names = _by_name(labels)
    lines = [line for line in text.splitlines() if line.strip(_DECORATION)]
    last = lines[-1] if lines else ""
    label = _label_of(last, names)
    if label is None:
        found = last.strip(_DECORATION) or text
        raise VerdictUnreadable(f"expected one of {', '.join(labels)}, got {_excerpt(found)}")
    for line in dict.fromkeys(lines):
        is_heading = line.rstrip(" \t*_").endswith(":") and line != last
        if not is_heading and _label_of(line, names) not in (None, label):
            raise VerdictUnreadable(f"two verdicts, {_excerpt(line)} and {_excerpt(last)}")
    return label


def _by_name(labels: Sequence[str]) -> dict[str, str]:
    """Return the labels by the text that is compared."""
    return {label.strip(_DECORATION).casefold(): label for label in reversed(labels)}


def _label_of(line: str, names: Mapping[str, str]) -> str | None:
    """Return the label that a line consists of; None if it contains anything else."""
    bare = line[: _MAX_LABEL_LINE + 1].strip(_DECORATION)
    if len(bare) > _MAX_LABEL_LINE:
        return None
    found = names.get(bare.casefold())
    if found is None and (prefix := _LABEL_PREFIX.match(bare)):
        found = names.get(bare[prefix.end() :].strip(_DECORATION).casefold())
    return found


def _check_stated(text: str, verdict: object, labels: Sequence[str]) -> None:
    """Raise VerdictUnreadable if a line of the text states another verdict, as in "Verdict: wrong"."""
    names = _by_name(labels)
    for line in dict.fromkeys(text.splitlines()):
        stated = _label_of(line, names)
        if stated not in (None, verdict):
            raise VerdictUnreadable(f"two verdicts, {verdict!r} and {_excerpt(line)}")


def label_schema(labels: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of a reply whose only field is `verdict`, one of the labels."""
    return {
        "type": "object",
        "properties": {"verdict": {"type": "string", "enum": list(labels)}},
        "required": ["verdict"],
        "additionalProperties": False,
    }


def parse_label_object(text: str, labels: Sequence[str]) -> str:
    """Parse a reply that follows `label_schema`. Raises VerdictUnreadable, also for two verdicts."""
    found, rest = only_object(text, "verdict")
    if found.keys() != {"verdict"} or found["verdict"] not in labels:
        raise VerdictUnreadable(f"expected one of {', '.join(labels)}, got {_excerpt(text)}")
    _check_stated(rest, found["verdict"], labels)
    return str(found["verdict"])


_LISTS = re.compile(r"\\boxed\s*+\{([^{}]*+)\}|\[([^\[\]{}]*+)\]")
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?(?:/[0-9]{1,9})?")
_MARK = re.compile(r"\bscores?\b(?:\s+are)?[\s:=*_$`]{1,8}$", re.IGNORECASE)
_MARK_LENGTH = 24


def parse_scores(text: str, n: int, *, lowest: int = 1, highest: int = 10) -> tuple[int, ...]:
    r"""Parse the list of scores in a reply, `Scores: \boxed{7, 3}` or `[7, 3]`, as `n` integer scores.

    The list is the last one that is marked as scores, else the last list of numbers. Raises VerdictUnreadable for a
    different number of scores, a score outside `lowest` to `highest`, and a list that differs, may be scores as well
    and may therefore be quoted from a candidate: one after it, or one of `n` integers in the range anywhere.
    """
    lists = [
        (bool(_MARK.search(text[max(0, match.start() - _MARK_LENGTH) : match.start()])), items)
        for match in _LISTS.finditer(text)
        if (items := _numbers_of(match[1] if match[1] is not None else match[2], n))
    ]
    if not lists:
        raise VerdictUnreadable(f"no list of scores in {_excerpt(text)}")
    marked = [at for at, (is_marked, _) in enumerate(lists) if is_marked]
    chosen = marked[-1] if marked else len(lists) - 1
    items = lists[chosen][1]

    def are_scores(found: tuple[str, ...]) -> bool:
        whole = len(found) == n and all(map(str.isdigit, found))
        return whole and all(lowest <= int(item) <= highest for item in found)

    for at, (_, other) in enumerate(lists):
        if other != items and (at > chosen or are_scores(other)):
            found = " and ".join(_excerpt(", ".join(each)) for each in (other, items))
            raise VerdictUnreadable(f"two lists of scores, {found}")
    if not are_scores(items):
        found = _excerpt(", ".join(items))
        raise VerdictUnreadable(f"expected {n} integers from {lowest} to {highest}, got {found}")
    return tuple(map(int, items))


def _numbers_of(listed: str, n: int) -> tuple[str, ...]:
    """Return the items of a list of numbers; none for another list.

    One number is a list only if `n` is 1.
    """
    items = tuple(item.strip() for item in listed.split(","))
    is_list = len(items) > 1 or n == 1
    return items if is_list and all(map(_NUMBER.fullmatch, items)) else ()


def _excerpt(text: str) -> str:
    excerpt = " ".join(text.split())
    if len(excerpt) > _EXCERPT_CHARACTERS:
        excerpt = excerpt[:_EXCERPT_CHARACTERS] + "..."
    return repr(excerpt)
