"""Prompts are files in this folder; they are read and indexed once, at import. Other packages add theirs.

A placeholder is a name in braces, `{question}`. Filling is one pass over the placeholders, so that braces in what is
filled in are text and nothing else.
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
    """The placeholders of a prompt. Raises ValueError for a prompt that does not exist."""
    return frozenset(_PLACEHOLDER.findall(_text_of(name)))


def has_reply_format(name: str) -> bool:
    """True for a prompt whose last line tells the model what to reply with."""
    return _text_of(name).rsplit("\n", 1)[-1].startswith("Reply with ")


def fill(name: str, values: Mapping[str, str]) -> str:
    """The prompt with every placeholder replaced by its value.

    Raises ValueError unless `values` names exactly the placeholders of the prompt: a value that would be
    dropped is as wrong as one that is missing.
    """
    wanted = placeholders(name)
    if wanted != values.keys():
        missing, unknown = sorted(wanted - values.keys()), sorted(values.keys() - wanted)
        problems = [f"needs {each}" for each in missing]
        problems += [f"has no placeholder {each}" for each in unknown]
        raise ValueError(f"prompt {name!r}: {', '.join(problems)}")
    return _PLACEHOLDER.sub(lambda match: values[match[1]], _text_of(name))


def _text_of(name: str) -> str:
    if name not in PROMPTS:
        near = ", ".join(get_close_matches(name, PROMPTS)) or "none is near"
        raise ValueError(
            f"there is no prompt {name!r} ({near}): it is the name of a file without .txt, in strategies/prompts or a "
            "folder that add_prompts was given"
        )
    return PROMPTS[name]
