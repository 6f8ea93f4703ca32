"""Prompts: the text files of this folder, read once at import, and those that other packages add.

A placeholder is a name in braces, `{question}`. Placeholders are filled in one pass, so that braces inside a value are
plain text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def _read(folder: Traversable) -> dict[str, str]:
    return {
        entry.name.removesuffix(".txt"): entry.read_text("utf-8").strip()
        for entry in folder.iterdir()
        if entry.name.endswith(".txt")
    }


_prompts = _read(files(__package__))
PROMPTS: Mapping[str, str] = MappingProxyType(_prompts)
"""All prompts by name: the name of the file without `.txt`."""


def add_prompts(folder: Traversable) -> None:
    """Add the `.txt` files of a folder: `add_prompts(importlib.resources.files(__package__) / "prompts")`.

    Raises ValueError if a prompt with one of the names exists.
    """
    added = _read(folder)
    if taken := sorted(added.keys() & _prompts.keys()):
        raise ValueError(f"prompts with these names exist already: {', '.join(taken)}")
    _prompts.update(added)


def placeholders(name: str) -> frozenset[str]:
    """Return the placeholders of a prompt. Raises ValueError for an unknown prompt."""
    return frozenset(_PLACEHOLDER.findall(_text_of(name)))


def has_reply_format(name: str) -> bool:
    """Return True if the last line of a prompt instructs the model how to reply."""
    return _text_of(name).rsplit("\n", 1)[-1].startswith("Reply with ")


def fill(name: str, values: Mapping[str, str]) -> str:
    """Return the prompt with every placeholder replaced by its value.

    Raises ValueError unless the keys of `values` are exactly the placeholders: an unused value is an error, too.
    """
    expected = placeholders(name)
    if expected != values.keys():
        missing, unknown = sorted(expected - values.keys()), sorted(values.keys() - expected)
        problems = [f"needs {each}" for each in missing]
        problems += [f"has no placeholder {each}" for each in unknown]
        raise ValueError(f"prompt {name!r}: {', '.join(problems)}")
    return _PLACEHOLDER.sub(lambda match: values[match[1]], _text_of(name))


def _text_of(name: str) -> str:
    if name not in PROMPTS:
        similar = ", ".join(get_close_matches(name, PROMPTS)) or "none"
        raise ValueError(
            f"unknown prompt {name!r} (similar names: {similar}): must be the name of a file without .txt, in "
            "strategies/prompts or in a folder passed to add_prompts"
        )
    return PROMPTS[name]
