"""Scripted judges, and access to the verdicts that a run reported."""

from __future__ import annotations

from secondpass.service.common.events import VerdictRecorded
from secondpass.service.engines.scripted.engine import Reply, Script
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import Capability

LABELS: frozenset[Capability] = frozenset({"labels"})
LABELS_AND_SCHEMA: frozenset[Capability] = frozenset({"labels", "schema"})
OPINION = '{"issues": ["step 2 adds"], "first_wrong_step": 2, "verdict": "wrong"}'


def replies_in_order(*texts: str) -> Script:
    """Return a script with one reply for each call, in order; the last reply repeats."""
    made = -1

    def script(_call: Call, _index: int) -> Reply:
        nonlocal made
        made += 1
        return Reply(texts[min(made, len(texts) - 1)])

    return script


def prefers_place(place: str, p: float) -> Script:
    """Return a judge that prefers the candidate at place A or B with probability p."""
    return lambda *_: Reply(
        "x", labels={"A": p if place == "A" else 1 - p, "B": 1 - p if place == "A" else p}
    )


def prefers_text(text: str, p: float) -> Script:
    """Return a judge that prefers the candidate with this text with probability p, at either place."""

    def script(call: Call, _index: int) -> Reply:
        prompt = call.messages[-1].text
        is_first = prompt.index(text) < prompt.index("END OF CANDIDATE A")
        a = p if is_first else 1 - p
        return Reply("A" if a > 0.5 else "B", labels={"A": a, "B": 1 - a})

    return script


def verdicts(run: LiveRun) -> list[VerdictRecorded]:
    """Return the verdict events of a run."""
    return [event for event in run.trace.events if isinstance(event, VerdictRecorded)]
