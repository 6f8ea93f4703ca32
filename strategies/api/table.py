"""The table of strategies: ours, then those of other distributions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import RLock
from typing import Protocol, TypeVar

from secondpass.strategies.api.entry_points import StrategyNotLoaded, import_entry_points


class Registered(Protocol):
    """What the table reads of a strategy."""

    @property
    def module(self) -> str: ...

    @property
    def is_ours(self) -> bool: ...


S = TypeVar("S", bound=Registered)


class StrategyTable(Mapping[str, S]):
    """A view of `registered`: ours in the order in which they were registered, then the others by name.

    The first read imports the entry points, so that importing this package imports no other distribution, and a module
    that registers a strategy may be imported before or after it. Threads may read at once: all wait for the first read. Every
    read raises StrategyNotLoaded where an entry point failed, and RuntimeError in a module that is imported by the first read.
    """

    def __init__(self, registered: Mapping[str, S]) -> None:
        self._registered = registered
        self._lock = RLock()
        self._is_loading = self._is_loaded = False
        self._problem: str | None = None

    def __getitem__(self, name: str) -> S:
        self.load()
        return self._registered[name]

    def __iter__(self) -> Iterator[str]:
        self.load()
        listed = list(self._registered.items())
        ours = [name for name, spec in listed if spec.is_ours]
        return iter([*ours, *sorted(name for name, spec in listed if not spec.is_ours)])

    def __len__(self) -> int:
        self.load()
        return len(self._registered)

    def load(self) -> None:
        """Import the entry points if that has not been done. Raises as every read does."""
        if not self._is_loaded:
            with self._lock:
                self._import()
        if self._problem is not None:
            raise StrategyNotLoaded(self._problem)

    def _import(self) -> None:
        """Import the entry points, once. Raises RuntimeError if one of them reads the table."""
        if self._is_loaded:
            return
        if self._is_loading:
            raise RuntimeError("STRATEGIES is read while strategies are imported; read it later")
        self._is_loading = True
        try:
            import_entry_points(self._owner_of)
        except StrategyNotLoaded as failure:
            self._problem = str(failure)
        finally:
            self._is_loading = False
        self._is_loaded = True

    def _owner_of(self, name: str) -> str | None:
        return self._registered[name].module if name in self._registered else None
