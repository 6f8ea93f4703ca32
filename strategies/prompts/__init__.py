"""Prompts are files in this folder; they are read and indexed once, at import. Other packages add theirs.

A placeholder is a name in braces, `{question}`. Filling is one pass over the placeholders, so that braces in what is
filled in are text and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
"""Every prompt by the name of its file."""


def add_prompts(folder: Traversable) -> None:
    """Add the `.txt` files of a folder: `add_prompts(importlib.resources.files(__package__) / "prompts")`.

    Raises ValueError for a name that another prompt has.
    """
    added = _read(folder)
    if taken := sorted(added.keys() & _prompts.keys()):
        raise ValueError(f"prompts with these names exist already: {', '.join(taken)}")
    _prompts.update(added)


def placeholders(name: str) -> frozenset[str]:
    """The placeholders of a prompt. Raises KeyError for a prompt that does not exist."""
    return frozenset(_PLACEHOLDER.findall(PROMPTS[name]))


def says_how_to_reply(name: str) -> bool:
    """True for a prompt whose last line tells the model what to reply with."""
    return PROMPTS[name].rsplit("\n", 1)[-1].startswith("Reply with ")


def fill(name: str, values: Mapping[str, str]) -> str:
    """The prompt with every placeholder replaced by its value.

    Raises ValueError unless `values` names exactly the placeholders of the prompt: a value that would be
    dropped is as wrong as one that is missing.
    """
    wanted = placeholders(name)
    if wanted != values.keys():
        raise ValueError(
            f"prompt {name!r} has the placeholders {sorted(wanted)}, not {sorted(values)}"
        )
    return _PLACEHOLDER.sub(lambda match: values[match[1]], PROMPTS[name])
