"""Where strategies meet the service: a decorator puts each into one typed table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from secondpass.strategies.core import Candidate, Capability, Run

Signal = Literal["none", "agreement", "self-score", "critique", "reward", "execution"]
Update = Literal["none", "select", "refine", "extend"]


class Params(BaseModel):
    """The base of every strategy's parameters: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    def summary(self) -> str:
        """The first line of the body's docstring."""
        return (self.body.__doc__ or "").strip().splitlines()[0]


_strategies: dict[str, Strategy[Any]] = {}
STRATEGIES: Mapping[str, Strategy[Any]] = MappingProxyType(_strategies)
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
            raise ValueError(f"two strategies are named {name!r}")
        if not body.__doc__:
            raise ValueError(f"strategy {name!r} has no docstring")
        _strategies[name] = Strategy(
            name, body, params, paper, signal, update, frozenset(needs), streams
        )
        return body

    return register
