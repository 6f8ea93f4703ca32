"""Table of strategies: those of secondpass, then those of other distributions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import RLock
from typing import Protocol, TypeVar

from secondpass.strategies.api.entry_points import StrategyNotLoaded, import_entry_points


class Registered(Protocol):
    """The attributes of a strategy that the table reads."""

    @property
    def module(self) -> str: ...

    @property
    def is_ours(self) -> bool: ...


S = TypeVar("S", bound=Registered)


class StrategyTable(Mapping[str, S]):
    """Read-only view of `registered`.

    It lists the strategies of secondpass in order of registration, then the others by name.

    The first read imports the entry points. Importing this package therefore imports no other distribution, and a module that
    registers a strategy may be imported before or after it. Reads are thread-safe and wait for the first one to finish.

    Raises:
        StrategyNotLoaded: On every read, if an entry point failed.
        RuntimeError: If a module reads the table while the first read imports it.
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
        """Import the entry points on the first call. Raises the errors of a read."""
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
            raise RuntimeError(
                "STRATEGIES cannot be read while entry points are imported; read it later"
            )
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
