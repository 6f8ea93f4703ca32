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
    return sum(REFLECTION in piece for piece in call.prefix or () if isinstance(piece, str))


def segments(*chains: tuple[str, ...]) -> Script:
    """A script whose chains answer their values, one after each reflection prompt."""

    def script(call: Call, index: int) -> Reply:
        values = chains[index % len(chains)]
        return Reply(f"So \\boxed{{{values[reflections(call)]}}}.")

    return script
