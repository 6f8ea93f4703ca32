"""What a setting means when several pods serve: limits that hold for each pod, and features that need a shared store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from secondpass.service.config.tables import AnyEngineTable, ScriptedEngineTable

Replicas = Literal["one", "many"]

PER_POD = ("max_runs", "max_sandboxes", "answer_workers")
"""Settings that bound a process, beside the calls of an engine: with `replicas = "many"` each pod has as much."""


def kept_in_one_process(engines: Mapping[str, AnyEngineTable]) -> Iterator[str]:
    """The settings that promise something over all requests, and that are counted in one process.

    A feature with a store that only one process sees belongs here, by the name of its setting.
    """
    for name, table in engines.items():
        if isinstance(table, ScriptedEngineTable) and table.rate is not None:
            yield f"engines.{name}.rate"


def check_replicas(replicas: Replicas, engines: Mapping[str, AnyEngineTable]) -> None:
    """Raise ValueError, which names every setting that several replicas cannot keep."""
    if replicas == "many" and (settings := list(kept_in_one_process(engines))):
        raise ValueError(
            f'replicas = "many" needs a store that all replicas share, and {", ".join(settings)} '
            'is counted in one process: remove it, or set replicas = "one"'
        )
