"""What a draft would answer if it had to now: a short forced reply after a copy of it (Dynasor, s1). Never part of the draft."""

from __future__ import annotations

import re
from dataclasses import replace

from secondpass.strategies import prompts
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.errors import EngineError, UnusableCompletion
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Completion
from secondpass.strategies.continuation.reasoning import mind

TOKENS = 24
"""Completion tokens of a forced reply at most."""

_FORCES = {"math": "force_math", "choice": "force_choice"}
_BRACE = re.compile(r"\\[\\{}]|[{}]")
_LETTER = re.compile(r"[\s(*]{0,4}([A-Za-z])(?![A-Za-z])")


def can_force(task: Task) -> bool:
    """Has the task answers that are short enough to be forced?"""
    return task.kind in _FORCES


async def forced(run: Run, draft: Completion) -> Completion | None:
    """The draft with a forced answer as its end; None where none came. Raises BudgetExhausted.

    The thoughts of a draft that breaks off in them are closed first. The reply is drawn at temperature 0.
    """
    force = prompts.fill(_FORCES[run.task.kind], {})
    profile = run.profile(draft.role)
    lead = f"\n{profile.thinking[1]}\n\n" if mind(draft, profile) == "open" else "\n\n"
    try:
        reply = await run.extend(
            draft, text=lead + force, purpose="force", temperature=0, max_tokens=TOKENS
        )
    except (EngineError, UnusableCompletion):
        return None
    begin = reply.text.index(force, len(draft.text)) + len(force)
    answer = short_answer(run.task, reply.text[begin:])
    if answer is None:
        return None
    text = reply.text[:begin] + answer
    return replace(reply, text=text, finish_reason="stop", token_ids=(), held=(), ends=())


def short_answer(task: Task, reply: str) -> str | None:
    """The answer that a forced reply begins with, with what ends it; None unless it is whole and says something."""
    if task.kind == "choice":
        letter = _LETTER.match(reply)
        return f" {letter[1].upper()}" if letter and letter[1].upper() in task.letters else None
    depth = 1
    for brace in _BRACE.finditer(reply):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            content = reply[: brace.start()]
            return f"{content}}}." if any(map(str.isalnum, content)) else None
    return None
