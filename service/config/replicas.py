"""Settings with several replicas: limits that apply per pod, and features that need a shared store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from secondpass.service.config.tables import AnyEngineTable, ScriptedEngineTable

Replicas = Literal["one", "many"]

PER_POD = ("max_runs", "max_sandboxes", "answer_workers")
"""Settings that limit one process, besides the calls of an engine; with several replicas, per pod."""


def per_process_settings(engines: Mapping[str, AnyEngineTable]) -> Iterator[str]:
    """Yield the configured settings that limit all requests together but are counted in one process.

    Add the setting of every feature whose store is visible to one process only.
    """
    for name, table in engines.items():
        if isinstance(table, ScriptedEngineTable) and table.rate is not None:
            yield f"engines.{name}.rate"


def check_replicas(replicas: Replicas, engines: Mapping[str, AnyEngineTable]) -> None:
    """Raise ValueError naming every setting that several replicas cannot honor."""
    if replicas == "many" and (settings := list(per_process_settings(engines))):
        raise ValueError(
            f'replicas = "many" cannot enforce {", ".join(settings)} (counted per process); '
            'remove it, or set replicas = "one"'
        )
