"""A scripted actor and critic for the tests of critic_retry."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import SOLVE, Capability

NO_LABELS: frozenset[Capability] = frozenset({"labels"})
SPLIT = ("41", "41", "42", "43")


def worked(value: str, name: str) -> str:
    return f"The {name} went like this: 1, 2, 3.\n\nSo \\boxed{{{value}}}."


def critic(
    drafts: Sequence[str],
    right: str,
    retries: Mapping[int, str] | None = None,
    *,
    issues: Sequence[str] = ("step 2 adds wrongly",),
    critique: str | None = None,
) -> Script:
    """Return a script with draft i answering drafts[i], and the retry of index i retries[i].

    The critic rejects every answer except `right`. `critique` replaces its written reply.
    """

    def script(call: Call, index: int) -> Reply:
        if call.purpose == SOLVE:
            return Reply(worked(drafts[index], f"draft {index}"))
        if call.purpose.startswith("retry"):
            return Reply(worked((retries or {})[index], f"retry {index}"))
        if call.purpose == "critique":
            is_right = f"boxed{{{right}}}" in call.messages[0].text
            verdict = "correct" if is_right else "wrong"
            found = {"issues": [*issues], "first_wrong_step": None, "verdict": verdict}
            return Reply(json.dumps(found) if critique is None else critique)
        right_p = 0.95 if f"boxed{{{right}}}" in call.messages[-2].text else 0.05
        a = right_p if "A) right" in call.messages[-1].text else 1 - right_p
        return Reply("x", labels={"A": a, "B": 1 - a})

    return script


def calibrated(run: LiveRun, auroc: float = 0.9) -> LiveRun:
    measured = Calibration(
        model="scripted",
        labels=("A", "B"),
        mass=1.0,
        temperature=1.0,
        auroc=auroc,
        accuracy=0.5,
        n=100,
        drawn=date(2026, 11, 1),
        data="0" * 64,
    )
    run.spec = replace(run.spec, calibrations={"critic": measured})
    return run


def purposes(engine: ScriptedEngine) -> Counter[str]:
    return Counter(call.purpose for call in engine.calls)


def retries_of(engine: ScriptedEngine) -> list[Call]:
    return [call for call in engine.calls if call.purpose.startswith("retry")]


RIGHT = "def add(a, b):\n    return a + b"
WRONG = "def add(a, b):\n    return a - b"
OTHER = "def add(a, b):\n    return a * b"
