"""Strategies of other distributions, found by their entry points in the group `secondpass.strategies`.

A distribution declares `NAME = "package.module"` or `NAME = "package.module:function"`; importing the module registers
the strategy NAME.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

GROUP = "secondpass.strategies"


class StrategyNotLoaded(Exception):
    """An entry point that cannot be imported or does not register its strategy; the text names it and its distribution."""


def import_entry_points(module_of: Callable[[str], str | None]) -> None:
    """Import the module of every entry point, in an order that does not depend on the installation.

    `module_of` returns the module that registered a strategy, or None. Raises StrategyNotLoaded.
    """
    found = sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))
    for entry in found:
        _import(entry)
    for entry in found:
        _check(entry, module_of(entry.name))


def _import(entry: EntryPoint) -> None:
    try:
        entry.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise StrategyNotLoaded(f"{_described(entry)} cannot be imported: {reason}") from error


def _check(entry: EntryPoint, registered_by: str | None) -> None:
    if registered_by is None:
        raise StrategyNotLoaded(
            f"{_described(entry)} registers no strategy named {entry.name!r}; "
            "the entry point and @strategy must use the same name"
        )
    if registered_by.partition(".")[0] != entry.module.partition(".")[0]:
        raise StrategyNotLoaded(
            f"{_described(entry)}: strategy {entry.name!r} is already registered by {registered_by}"
        )


def _described(entry: EntryPoint) -> str:
    owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
    return f"{owner}: entry point {entry.name} = {entry.value!r} (group {GROUP})"
