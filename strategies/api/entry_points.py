"""Strategies of other distributions, loaded from entry points of the group `secondpass.strategies`.

A distribution declares `NAME = "package.module"` or `NAME = "package.module:function"`; importing the module registers
the strategy NAME.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points

GROUP = "secondpass.strategies"

_LONGEST = 300
"""Maximum length of a module's own error message in a report, in characters."""


class StrategyNotLoaded(Exception):
    """Entry points failed to load; the message has a line for each, with its distribution."""


def is_ours(module: str) -> bool:
    """Return True for a module of secondpass itself."""
    return module.startswith("secondpass.")


def import_entry_points(owner_of: Callable[[str], str | None]) -> None:
    """Import the module of every entry point, ordered by name.

    `owner_of` returns the module that registered a strategy, or None. Raises StrategyNotLoaded after all imports if one of
    them failed, did not register its strategy, or uses the name of a strategy of secondpass.
    """
    found = sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))
    if problems := [*_problems(found, owner_of)]:
        raise StrategyNotLoaded("\n".join(problems))


def _problems(found: list[EntryPoint], owner_of: Callable[[str], str | None]) -> Iterator[str]:
    imported = []
    for entry in found:
        if (problem := _import(entry)) is None:
            imported.append(entry)
        else:
            yield f"{_described(entry)} cannot be imported: {problem}"
    for entry in imported:
        owner = owner_of(entry.name)
        if owner is None:
            yield (
                f"{_described(entry)} registers no strategy named {entry.name!r}; "
                "the entry point and @strategy must use the same name"
            )
        elif is_ours(owner):
            yield f"{_described(entry)}: strategy {entry.name!r} is already registered by {owner}"


def _import(entry: EntryPoint) -> str | None:
    """Import the module; return an error message, or None.

    Only KeyboardInterrupt propagates. Any other exception is reported, SystemExit included.
    """
    if entry.pattern.match(entry.value) is None:
        return "its value must be package.module or package.module:function"
    try:
        entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a module may call sys.exit()
        return f"{type(error).__name__}: {_text(error)}"
    return None


def _text(error: BaseException) -> str:
    """Return an error's message, truncated, with control characters replaced."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - __str__ is the module's own code
        return "(its message cannot be read)"
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _described(entry: EntryPoint) -> str:
    dist = entry.dist
    owner = f"{dist.name} {dist.version}" if dist and dist.name else "an unknown distribution"
    return f"{owner}: entry point {entry.name} = {entry.value!r} (group {GROUP})"
