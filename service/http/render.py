"""JSON documents of a run: the answer object, the report and the events."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from secondpass.service.common.events import CallFinished, Event, Trace, VerdictRecorded
from secondpass.service.http.encoding import budget_document, jsonable, usage_document
from secondpass.service.http.schema import TraceLevel
from secondpass.service.http.state import models_of
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run_spec import RunSpec


def answer_document(
    spec: RunSpec, outcome: Outcome, trace: Trace, level: TraceLevel, created: int
) -> dict[str, Any]:
    """Build the answer object of POST /solve."""
    return {"id": spec.id, "created": created, "text": outcome.candidate.text} | report_document(
        spec, outcome, trace, level
    )


def report_document(
    spec: RunSpec, outcome: Outcome, trace: Trace, level: TraceLevel
) -> dict[str, Any]:
    """Build the report of a run: everything except its text."""
    document: dict[str, Any] = {
        "strategy": spec.strategy.name,
        "params": spec.params.model_dump(),
        "models": models_of(spec),
        "task": spec.task.model_dump(exclude_defaults=True) | {"guessed": spec.task.guessed},
        "answer": outcome.candidate.answer,
        "confidence": outcome.confidence,
        "confidence_kind": outcome.confidence_kind,
        "finish_reason": outcome.finish_reason,
        "stop_reason": outcome.stop_reason,
        "degraded": outcome.degraded,
        "saved": jsonable(outcome.saved),
        "notes": dict(outcome.notes),
        "usage": usage_document(outcome.usage),
        "budget": budget_document(outcome.budget, spec.limits.deadline_ms, outcome.timing.total),
        "timing": {name: round(ms, 3) for name, ms in jsonable(outcome.timing).items()},
    }
    if level != "none":
        document["candidates"] = jsonable(outcome.candidates)
        document["trace"] = [
            event_document(event, level)
            for event in trace.events
            if isinstance(event, CallFinished | VerdictRecorded)
        ]
    return document


def event_document(event: Event, level: TraceLevel) -> dict[str, Any]:
    """Convert an event to JSON. Only a full trace contains the prompts and texts of calls."""
    document: dict[str, Any] = {"type": event.type}
    for field in fields(event):
        value = getattr(event, field.name)
        document[field.name] = (
            float(f"{value:.9g}") if isinstance(value, float) else jsonable(value)
        )
    if isinstance(event, CallFinished):
        document["estimated"] = document.pop("is_estimated")
        if level != "full":
            del document["texts"], document["messages"]
    return document
