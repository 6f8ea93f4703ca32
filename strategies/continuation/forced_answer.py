"""Forced answers: a short reply to an inserted prompt after a copy of a partial draft (Dynasor, s1).

The reply never becomes part of the draft itself.
"""

from __future__ import annotations

import re
from dataclasses import replace

from secondpass.strategies import prompts
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Completion, Draw, Segment
from secondpass.strategies.continuation.reasoning import reasoning_state
from secondpass.strategies.continuation.segments import joined

MAX_TOKENS = 24
"""Maximum completion tokens of a forced reply."""

_PROMPTS = {"math": "force_math", "choice": "force_choice"}
_BRACE = re.compile(r"\\[\\{}]|[{}]")
_LETTER = re.compile(r"[\s(*]{0,4}([A-Za-z])(?![A-Za-z])")


def can_force(task: Task) -> bool:
    """Return whether answers of the task are short enough to be forced."""
    return task.kind in _PROMPTS


async def force_answer(run: Run, draft: Completion) -> Completion | None:
    """Return a copy of the draft that ends with a forced answer; None without a complete answer.

    The prompt closes open reasoning first. The reply is drawn at temperature 0 and has at most 24
    tokens. A failed call also returns None.
    """
    prompt = prompts.fill(_PROMPTS[run.task.kind], {})
    profile = run.model(draft.role).profile
    is_open = reasoning_state(draft, profile) == "open"
    opening = f"\n{profile.thinking[1]}\n\n" if is_open else "\n\n"
    draw = Draw(temperature=0, max_tokens=MAX_TOKENS)

    async def extend(draft: Completion) -> Completion:
        return await run.extend(draft, text=opening + prompt, purpose="force", draw=draw)

    [reply] = await run.map(extend, [draft], min_results=0)
    if reply is None:
        return None
    begin = reply.text.index(prompt, len(draft.text)) + len(prompt)
    answer = parse_forced_answer(run.task, reply.text[begin:])
    if answer is None:
        return None
    ending = replace(reply, segments=(Segment(answer),), finish_reason="stop")
    whole = joined(draft, ending, opening + prompt, closing=profile.thinking[1])
    return replace(whole, usage=reply.usage)


def parse_forced_answer(task: Task, reply: str) -> str | None:
    """Return the answer at the beginning of a forced reply; None unless it is complete and not empty.

    A choice is the letter. A math answer includes the closing brace of its box and a full stop.
    """
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
