"""Scripted judges, and what a run reports of their verdicts."""

from __future__ import annotations

from secondpass.service.common.events import VerdictSeen
from secondpass.service.engines.scripted.engine import Reply, Script
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import Capability

LABELS: frozenset[Capability] = frozenset({"labels"})
LABELS_AND_SCHEMA: frozenset[Capability] = frozenset({"labels", "schema"})
OPINION = '{"issues": ["step 2 adds"], "first_wrong_step": 2, "verdict": "wrong"}'


def in_turn(*texts: str) -> Script:
    """A script whose calls, not their completions, get these replies; the last one for good."""
    made = -1

    def script(_call: Call, _index: int) -> Reply:
        nonlocal made
        made += 1
        return Reply(texts[min(made, len(texts) - 1)])

    return script


def favours(place: str, p: float) -> Script:
    """A judge that gives the candidate in this place the probability p."""
    return lambda *_: Reply(
        "x", labels={"A": p if place == "A" else 1 - p, "B": 1 - p if place == "A" else p}
    )


def likes(text: str, p: float) -> Script:
    """A judge that gives the candidate with this text the probability p, in either place."""

    def script(call: Call, _index: int) -> Reply:
        asked = call.messages[-1].text
        is_first = asked.index(text) < asked.index("END OF CANDIDATE A")
        a = p if is_first else 1 - p
        return Reply("A" if a > 0.5 else "B", labels={"A": a, "B": 1 - a})

    return script


def verdicts(run: LiveRun) -> list[VerdictSeen]:
    """The verdicts that the run reported."""
    return [event for event in run.trace.events if isinstance(event, VerdictSeen)]
