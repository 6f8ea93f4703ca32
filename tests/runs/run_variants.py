"""Runs with a specification that `make_run` has no arguments for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from secondpass.service.common.events import Trace
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.generation import EXTEND
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import SharedResources
from secondpass.strategies.api.registry import Params, Strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate


def with_spec(run: LiveRun, *, shared: SharedResources | None = None, **changes: Any) -> LiveRun:
    """Return a new run with some fields of the specification replaced."""
    return LiveRun(replace(run.spec, **changes), shared or SharedResources(Equivalence()), Trace())


def with_body(
    run: LiveRun,
    body: Callable[[Run, Params], Awaitable[Candidate]],
    *,
    typical_tokens: int | None = None,
) -> LiveRun:
    """Return a new run with `body` as its strategy.

    `typical_tokens` seeds the length statistics of answers.
    """
    own = Strategy("own", body, Params, None, "none", "select", {}, streams=False, module=__name__)
    shared = SharedResources(Equivalence())
    for purpose in (SOLVE, EXTEND) if typical_tokens else ():
        model = run.spec.upstreams["actor"].engine.model
        shared.stats.lengths.add(("own", "actor", purpose, model), typical_tokens or 0)
    return with_spec(run, strategy=own, params=Params(), shared=shared)
