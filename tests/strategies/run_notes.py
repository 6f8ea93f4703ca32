"""Notes of a run by key."""

from __future__ import annotations

from secondpass.service.common.events import NoteRecorded
from secondpass.service.runs.run import LiveRun


def notes(run: LiveRun) -> dict[str, str]:
    return {
        event.about: event.what for event in run.trace.events if isinstance(event, NoteRecorded)
    }
