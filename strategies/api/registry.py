"""Registry of strategies: the `strategy` decorator and the table that it fills."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.entry_points import is_ours
from secondpass.strategies.api.params import Params, Use, Variants, problem_of
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.table import StrategyTable
from secondpass.strategies.api.values import Candidate, Capability, Role

__all__ = [
    "STRATEGIES",
    "Needs",
    "Params",
    "Signal",
    "Strategy",
    "Update",
    "Use",
    "Variants",
    "strategy",
]

Signal = Literal["none", "agreement", "self-score", "critique", "reward", "execution"]
Update = Literal["none", "select", "refine", "extend"]


P = TypeVar("P", bound=Params)
Body = Callable[[Run, P], Awaitable[Candidate]]
Needs: TypeAlias = Mapping[Role, Collection[Capability]]
"""Capabilities by role; an empty collection means that some engine must play the role."""


@dataclass(frozen=True, slots=True)
class Strategy(Generic[P]):
    """A registered strategy.

    `paper` is an arXiv id or None. `signal` is what it learns from, `update` what it does with the signal. `needs` are the
    capabilities without which a run is refused before its first call: a mapping, or a function of the parameters and the
    task that returns one. `streams` is described at `strategy`. `module` is the module that registered it.
    """

    name: str
    body: Body[P]
    params: type[P]
    paper: str | None
    signal: Signal
    update: Update
    needs: Needs | Callable[[P, Task], Needs]
    streams: bool
    module: str

    def needs_for(self, params: P, task: Task) -> Needs:
        """Return the capabilities that a run with these parameters needs."""
        return self.needs(params, task) if callable(self.needs) else self.needs

    @property
    def defaults(self) -> P:
        """The parameters of a request that sets none."""
        return self.params.model_validate({})

    @property
    def is_ours(self) -> bool:
        """True unless another distribution registered it."""
        return is_ours(self.module)

    @property
    def summary(self) -> str:
        """The first line of the body's docstring."""
        return (self.body.__doc__ or "").strip().splitlines()[0]


NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""Names that a strategy may have."""

_PAPER = re.compile(r"\d{4}\.\d{4,5}")


def _problem_of(spec: Strategy[Any]) -> str | None:
    """The reason why a strategy cannot be served, or None."""
    if NAME_PATTERN.fullmatch(spec.name) is None:
        return f"a name must match {NAME_PATTERN.pattern}"
    if not inspect.iscoroutinefunction(spec.body):
        return "the decorated function must be async"
    if not (spec.body.__doc__ or "").strip():
        return "the decorated function must have a docstring, whose first line is its summary"
    if spec.paper is not None and not _PAPER.fullmatch(str(spec.paper)):
        return f"paper must be an arXiv id or None, not {spec.paper!r}"
    choices: dict[str, tuple[Collection[object], Any]] = {
        "signal": ({spec.signal}, Signal),
        "update": ({spec.update}, Update),
        **_needs_of(spec),
    }
    for field, (given, allowed) in choices.items():
        if wrong := set(given) - set(get_args(allowed)):
            named = ", ".join(sorted(map(repr, wrong)))
            return f"{field}: {named} is not one of {', '.join(get_args(allowed))}"
    return problem_of(spec.params)


def _needs_of(spec: Strategy[Any]) -> dict[str, tuple[Collection[object], Any]]:
    if callable(spec.needs):
        return {}
    named = {capability for each in spec.needs.values() for capability in each}
    return {"needs: a role": (spec.needs.keys(), Role), "needs": (named, Capability)}


_registered: dict[str, Strategy[Any]] = {}
STRATEGIES: StrategyTable[Strategy[Any]] = StrategyTable(_registered)
"""Every registered strategy by its name on the wire."""


def strategy(
    name: str,
    params: type[P],
    *,
    paper: str | None,
    signal: Signal,
    update: Update,
    needs: Needs | Callable[[P, Task], Needs] | None = None,
    streams: bool = False,
) -> Callable[[Body[P]], Body[P]]:
    """Register the decorated coroutine function as a strategy.

    Args:
        name: Name on the wire; matches `[a-z][a-z0-9_]{0,63}`.
        params: Class of its parameters.
        paper: arXiv id, such as "2203.11171", or None.
        signal: What the strategy learns from.
        update: What it does with the signal.
        needs: Capabilities by role that a run cannot do without; see `Strategy`.
        streams: True if the answer's tokens may be streamed as they are generated, because no later step can replace them.

    Raises:
        ValueError: The name is taken; an argument does not have one of the values allowed; a parameter has no default or no
            JSON schema; two variants share a discriminator value; the function is not async or has no docstring.
    """
    module = _calling_module()

    def register(body: Body[P]) -> Body[P]:
        if name in _registered:
            raise ValueError(
                f"strategy {name!r} is already registered by {_registered[name].module}"
            )
        spec = Strategy(name, body, params, paper, signal, update, needs or {}, streams, module)
        if problem := _problem_of(spec):
            raise ValueError(f"strategy {name[:80]!r}: {problem}")
        _registered[name] = spec
        return body

    return register


def _calling_module() -> str:
    """Return the name of the module that calls `strategy`; the body may be defined in another one."""
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame and frame.f_back
    return str(frame.f_globals.get("__name__", "?")) if frame else "?"
