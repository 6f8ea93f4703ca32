"""Two small strategies that a new one starts from: those of docs/adding-a-strategy.md."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from secondpass.strategies.api.registry import Signal
from secondpass.strategies.api.values import SOLVE

_LINE_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Skeleton:
    """Files of a strategy to start from.

    DECORATOR, SIGNATURE, CLASS and NAME are placeholders in `source`, NAME in `documentation`. `learns_from` and `does` are
    cells of the table of strategies.
    """

    source: str
    documentation: str
    prompt: str | None
    signal: Signal
    learns_from: str
    does: str

    def module(self, name: str) -> str:
        """Return the source of the module."""
        kind = _class_name(name)
        options = [f'"{name}"', kind, "paper=None", f'signal="{self.signal}"', 'update="select"']
        signature = ["run: Run", f"params: {kind}"]
        filled = {
            "DECORATOR": _wrapped("@strategy(", options, ")"),
            "SIGNATURE": _wrapped(f"async def {name}(", signature, ") -> Candidate:"),
            "CLASS": kind,
            "NAME": name,
        }
        return re.sub("|".join(filled), lambda match: filled[match[0]], self.source)

    def page(self, name: str) -> str:
        """Return the page of the documentation, in Markdown."""
        return self.documentation.replace("NAME", name)

    def cells(self, name: str) -> Mapping[str, str]:
        """Return the cells of the table of strategies, by a word of their heading."""
        link = f"[`{name}`]({name}.md)"
        return {
            "name": link,
            "strategy": link,
            "learns": self.learns_from,
            "does": self.does,
            "paper": "",
            "streams": "no",
        }

    def problem_of(self, name: str) -> str | None:
        """Return the reason why a strategy of this name cannot be written, or None."""
        if name == SOLVE and self.prompt is not None:
            return f"{name!r} is the prompt name of the client's conversation"
        nodes = ast.walk(ast.parse(self.module("a_new_strategy")))
        used = {each.id for each in nodes if isinstance(each, ast.Name)}
        for each in (name, _class_name(name)):
            if each in used or hasattr(builtins, each):
                return f"{each!r} is a name that the module uses for something else"
        return None


def _read(file: str) -> str:
    return (files(__package__) / f"{file}.txt").read_text("utf-8")


SKELETONS: Mapping[str, Skeleton] = {
    "vote": Skeleton(
        source=_read("vote.py"),
        documentation=_read("vote.md"),
        prompt=None,
        signal="agreement",
        learns_from="agreement",
        does="selects by vote",
    ),
    "judge": Skeleton(
        source=_read("judge.py"),
        documentation=_read("judge.md"),
        prompt=_read("judge.prompt"),
        signal="self-score",
        learns_from="grades of a judge",
        does="selects by score",
    ),
}
"""The skeletons by the value of `--kind`."""


def _class_name(name: str) -> str:
    """Convert a name to CamelCase."""
    return "".join(part.capitalize() for part in name.split("_"))


def _wrapped(head: str, arguments: list[str], tail: str) -> str:
    """Format a call or a signature as ruff does."""
    joined = ", ".join(arguments)
    if len(head + joined + tail) <= _LINE_LENGTH:
        return f"{head}{joined}{tail}"
    if len(joined) + 4 <= _LINE_LENGTH:
        return f"{head}\n    {joined}\n{tail}"
    return "\n".join([head, *(f"    {each}," for each in arguments), tail])
