"""Where strategies meet the service: a decorator puts each into one typed table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from secondpass.strategies.api.entry_points import StrategyNotLoaded, import_entry_points
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate, Capability

Signal = Literal["none", "agreement", "self-score", "critique", "reward", "execution"]
Update = Literal["none", "select", "refine", "extend"]


Use: TypeAlias = tuple[str, Mapping[str, Collection[object]]]
"""A field, and what gives it an effect: any of these other fields with any of these values."""


class Params(BaseModel):
    """The base of every strategy's parameters: frozen; an unknown field is an error, and so is one without effect.

    `uses` lists the fields that have an effect only beside others; of several entries for one field each must hold.
    None leaves a choice to the strategy, so that anything may come of it. A field at its default is never an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    uses: ClassVar[tuple[Use, ...]] = ()

    @property
    def chains(self) -> int:
        """Drafts that are begun at most: `n`, unless the strategy has a default of n that depends on others."""
        n: int = getattr(self, "n", 1)
        return n

    @model_validator(mode="after")
    def _each_has_an_effect(self) -> Self:
        for name, others in self.uses:
            given = {other: getattr(self, other) for other in others}
            is_used = any(given[o] is None or given[o] in values for o, values in others.items())
            if is_used or getattr(self, name) == (default := type(self).model_fields[name].default):
                continue
            beside = " and ".join(f"{other} {value!r}" for other, value in given.items())
            chosen = " or ".join(f"{other} {_said(values)}" for other, values in others.items())
            raise ValueError(
                f"{name}: has no effect with {beside}; leave it {default!r}, or choose {chosen}"
            )
        return self


def _said(values: Collection[object]) -> str:
    if isinstance(values, range):
        return f"{values.start} to {values.stop - 1}"
    return " or ".join(map(repr, values))


P = TypeVar("P", bound=Params)
Body = Callable[[Run, P], Awaitable[Candidate]]


@dataclass(frozen=True, slots=True)
class Strategy(Generic[P]):
    """A registered strategy.

    `paper` is an arXiv id, or None. `signal` is what it learns from, `update` what it does with that. `needs` are
    capabilities that the actor's engine must have; those of other roles are checked call by call.
    """

    name: str
    body: Body[P]
    params: type[P]
    paper: str | None
    signal: Signal
    update: Update
    needs: frozenset[Capability]
    streams: bool

    @property
    def is_ours(self) -> bool:
        """True unless another distribution registered it."""
        return self.body.__module__.startswith("secondpass.")

    @property
    def summary(self) -> str:
        """The first line of the body's docstring."""
        return (self.body.__doc__ or "").strip().splitlines()[0]


_strategies: dict[str, Strategy[Any]] = {}


class _Table(Mapping[str, Strategy[Any]]):
    """The registered strategies: ours, then those of other distributions by name.

    The first read imports the entry points, so that importing this package imports no other distribution, and a module
    that registers a strategy may be imported before or after it. Such a module must not read the table while it is
    imported. Every read raises StrategyNotLoaded where an entry point failed.
    """

    def __init__(self) -> None:
        self._is_read = False
        self._failure: StrategyNotLoaded | None = None

    def __getitem__(self, name: str) -> Strategy[Any]:
        self._load()
        return _strategies[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(_strategies)

    def __len__(self) -> int:
        self._load()
        return len(_strategies)

    def _load(self) -> None:
        if not self._is_read:
            self._is_read = True
            try:
                import_entry_points(_module_of)
            except StrategyNotLoaded as failure:
                self._failure = failure
            for name in sorted(name for name, spec in _strategies.items() if not spec.is_ours):
                _strategies[name] = _strategies.pop(name)
        if self._failure is not None:
            raise self._failure


def _module_of(name: str) -> str | None:
    return _strategies[name].body.__module__ if name in _strategies else None


STRATEGIES: Mapping[str, Strategy[Any]] = _Table()
"""Every registered strategy by its name on the wire."""


def strategy(
    name: str,
    params: type[P],
    *,
    paper: str | None,
    signal: Signal,
    update: Update,
    needs: frozenset[Capability] | set[Capability] = frozenset(),
    streams: bool = False,
) -> Callable[[Body[P]], Body[P]]:
    """Register the decorated function under `name`.

    `streams` says that the answer's tokens can reach the client as they are written, since nothing later overrules
    them. Raises ValueError for a name that is taken or a body without a docstring.
    """

    def register(body: Body[P]) -> Body[P]:
        if name in _strategies:
            raise ValueError(f"strategy {name!r} is already registered by {_module_of(name)}")
        if not body.__doc__:
            raise ValueError(f"strategy {name!r} has no docstring")
        _strategies[name] = Strategy(
            name, body, params, paper, signal, update, frozenset(needs), streams
        )
        return body

    return register
