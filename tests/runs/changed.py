"""Runs whose specification differs in what `make_run` has no argument for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from secondpass.service.common.events import Trace
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import Shared


def changed(run: LiveRun, **changes: Any) -> LiveRun:
    """A run, not started, of the same specification but for some fields."""
    return LiveRun(replace(run.spec, **changes), Shared(Equivalence()), Trace())
