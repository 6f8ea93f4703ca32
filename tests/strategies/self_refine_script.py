"""A scripted actor, critic and judge for the tests of self_refine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Outcome
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import SOLVE
from secondpass.testing.support import assert_accounting_is_complete, make_run


def boxed(value: str) -> str:
    return f"So it is. The answer is \\boxed{{{value}}}."


def script(
    *,
    drafts: str = "41",
    revised: str = "42",
    drawn: str = "42",
    verdict: str = "revise",
    prefers_revision: bool = True,
) -> Script:
    """Return a script that replies with the given answers, in order.

    `drafts`, `drawn` (further drafts) and `revised` are answers separated by spaces. The last answer of
    each repeats.
    """

    def reply(call: Call, index: int) -> Reply:
        if call.purpose == "feedback":
            return Reply(json.dumps({"issues": ["step 1"], "verdict": verdict}))
        if call.purpose == "prefer":
            shown = call.messages[-1].text
            is_first = (shown.find("CANDIDATE A") < shown.find("{41}")) != (
                shown.find("CANDIDATE B") < shown.find("{41}")
            )
            is_a = is_first != prefers_revision
            return Reply("", labels={"A": 0.9 if is_a else 0.1, "B": 0.1 if is_a else 0.9})
        if call.purpose == SOLVE:
            answers = [*drafts.split(), *drawn.split()]
            return Reply(boxed(answers[min(index, len(answers) - 1)]))
        answers = revised.split()
        return Reply(boxed(answers[min(index - 1, len(answers) - 1)]))

    return reply


async def refine(params: Mapping[str, Any], **replies: Any) -> tuple[Outcome, list[Call]]:
    engine = ScriptedEngine(script(**replies))
    run = make_run(engine, "self_refine", params)
    outcome = await execute(run)
    assert_accounting_is_complete(run, engine)
    return outcome, engine.calls


def purposes(calls: list[Call]) -> list[str]:
    return [call.purpose for call in calls]
