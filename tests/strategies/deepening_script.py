"""Prompts and scripted chains for the tests of iterative_deepening."""

from __future__ import annotations

from secondpass.service.engines.scripted.engine import Reply, Script
from secondpass.strategies import prompts
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call

NAME = "iterative_deepening"
REFLECTION = prompts.PROMPTS["deepen"]
FORCE = prompts.PROMPTS["force_math"]
CHOICE = Task(kind="choice", options=("red", "green", "blue"))


def reflections(call: Call) -> int:
    return sum(REFLECTION in part for part in call.prefix or () if isinstance(part, str))


def segments(*chains: tuple[str, ...]) -> Script:
    """Return a script whose chain i answers with the values of chains[i], one per reflection prompt."""

    def script(call: Call, index: int) -> Reply:
        values = chains[index % len(chains)]
        return Reply(f"So \\boxed{{{values[reflections(call)]}}}.")

    return script
