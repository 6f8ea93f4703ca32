"""Control tokens that a vLLM server lists at /tokenizer_info."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from secondpass.service.engines.common.control_tokens import listed_control_tokens
from secondpass.service.engines.openai.connection import Connection
from secondpass.strategies.api.errors import EngineError

_SPECIAL_LISTS = ("additional_special_tokens", "extra_special_tokens")


async def fetch_control_tokens(connection: Connection) -> frozenset[str]:
    """Return the control tokens of the server's tokenizer that are not known without it.

    Empty unless the server is vLLM with `--enable-tokenizer-info-endpoint`.
    """
    with suppress(EngineError):
        info = await connection.fetch("GET", f"{connection.root}/tokenizer_info")
        with connection.parsing(None):
            return control_tokens_of(info)
    return frozenset()


def control_tokens_of(info: Mapping[str, Any]) -> frozenset[str]:
    """Return the control tokens in a tokenizer's configuration; see `listed_control_tokens`.

    A token is a text, or an object with its text as `content`. Anything else is ignored.
    """
    added = list(_items(info.get("added_tokens_decoder")))
    special = [value for name, value in info.items() if name.endswith("_token")]
    for name in _SPECIAL_LISTS:
        special += _items(info.get(name))
    special += [each for each in added if isinstance(each, Mapping) and each.get("special") is True]
    template = "".join(_template_texts(info.get("chat_template")))
    return listed_control_tokens(_contents(special), _contents(added), template)


def _items(listed: object) -> Iterable[object]:
    if isinstance(listed, Mapping):
        return listed.values()
    return listed if isinstance(listed, list) else ()


def _contents(tokens: Iterable[object]) -> Iterator[object]:
    return (each.get("content") if isinstance(each, Mapping) else each for each in tokens)


def _template_texts(template: object) -> Iterator[str]:
    """Yield the texts of a chat template, or of several: an object or a list by name."""
    if isinstance(template, str):
        yield template
    for each in _items(template):
        text = each.get("template") if isinstance(each, Mapping) else each
        if isinstance(text, str):
            yield text
