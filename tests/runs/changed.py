"""Runs whose specification differs in what `make_run` has no argument for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from secondpass.service.common.events import Trace
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.generation import EXTEND
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import Shared
from secondpass.strategies.api.registry import Params, Strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate


def changed(run: LiveRun, *, shared: Shared | None = None, **changes: Any) -> LiveRun:
    """A run, not started, of the same specification but for some fields."""
    return LiveRun(replace(run.spec, **changes), shared or Shared(Equivalence()), Trace())


def of_body(
    run: LiveRun, body: Callable[[Run, Params], Awaitable[Candidate]], *, usual: int | None = None
) -> LiveRun:
    """A run, not started, whose strategy is `body`; its answers usually take `usual` tokens."""
    own = Strategy("own", body, Params, None, "none", "select", {}, streams=False, module=__name__)
    shared = Shared(Equivalence())
    for purpose in (SOLVE, EXTEND) if usual else ():
        model = run.spec.upstreams["actor"].engine.model
        shared.lengths.add(("own", "actor", purpose, model), usual or 0)
    return changed(run, strategy=own, params=Params(), shared=shared)
