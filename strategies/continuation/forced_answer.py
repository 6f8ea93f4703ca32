"""The answer of an unfinished draft: a short forced reply after a copy of it (Dynasor, s1). Never part of the draft."""

from __future__ import annotations

import re
from dataclasses import replace

from secondpass.strategies import prompts
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Completion, Draw, Segment
from secondpass.strategies.continuation.reasoning import reasoning_state
from secondpass.strategies.continuation.segments import joined

TOKENS = 24
"""Completion tokens of a forced reply at most."""

_FORCES = {"math": "force_math", "choice": "force_choice"}
_BRACE = re.compile(r"\\[\\{}]|[{}]")
_LETTER = re.compile(r"[\s(*]{0,4}([A-Za-z])(?![A-Za-z])")


def can_force(task: Task) -> bool:
    """Whether the task's answers are short enough to be forced."""
    return task.kind in _FORCES


async def forced(run: Run, draft: Completion) -> Completion | None:
    """The draft with a forced answer at its end; None where the reply holds no whole answer, or the call failed.

    Open reasoning of the draft is closed first. The reply is drawn at temperature 0.
    """
    force = prompts.fill(_FORCES[run.task.kind], {})
    profile = run.model(draft.role).profile
    is_open = reasoning_state(draft, profile) == "open"
    lead = f"\n{profile.thinking[1]}\n\n" if is_open else "\n\n"
    draw = Draw(temperature=0, max_tokens=TOKENS)

    async def extend(draft: Completion) -> Completion:
        return await run.extend(draft, text=lead + force, purpose="force", draw=draw)

    [reply] = await run.map(extend, [draft], min_results=0)
    if reply is None:
        return None
    begin = reply.text.index(force, len(draft.text)) + len(force)
    answer = short_answer(run.task, reply.text[begin:])
    if answer is None:
        return None
    own = replace(reply, segments=(Segment(answer),), finish_reason="stop")
    whole = joined(draft, own, lead + force, closing=profile.thinking[1])
    return replace(whole, usage=reply.usage)


def short_answer(task: Task, reply: str) -> str | None:
    """The answer at the beginning of a forced reply, with what ends it; None unless it is whole and not empty."""
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
