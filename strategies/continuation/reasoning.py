"""State of a completion's reasoning, and the point at which a reflection prompt may be inserted. Pure.

The point is inside the reasoning of a reasoning model, and in the text of other models.
"""

from __future__ import annotations

from typing import Literal

from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.values import Completion
from secondpass.strategies.continuation.safe_points import is_safe_end, last_safe_point
from secondpass.strategies.continuation.segments import is_in_reasoning, truncated

ReasoningState = Literal["none", "open", "closed"]


def reasoning_state(completion: Completion, profile: Profile) -> ReasoningState:
    """Return whether a completion has reasoning, and whether the reasoning is closed.

    Engines return reasoning separately, or in the text between its delimiters. A truncated text of
    a reasoning model without delimiters is open reasoning, because the opening delimiter may be
    part of the prompt. A finished one has no reasoning.
    """
    opening, closing = profile.thinking
    if completion.reasoning:
        return "open" if is_in_reasoning(completion) else "closed"
    if closing in completion.text:
        return "closed"
    is_open = opening in completion.text or (profile.is_thinking and completion.is_truncated)
    return "open" if is_open else "none"


def reflection_point(
    completion: Completion, profile: Profile, *, after: int = 0
) -> Completion | None:
    """Return the completion truncated to the point of a reflection prompt; None without such a point.

    Closed reasoning is reopened. A finished part is kept whole if its end is a safe point, a
    truncated one is truncated to its last safe point. The point must be beyond `after` characters,
    counted in the reasoning if the engine returns it separately, else in the text.
    """
    state = reasoning_state(completion, profile)
    is_separate = bool(completion.reasoning)
    written = completion.reasoning if is_separate else completion.text
    if is_separate:
        written = written.removesuffix(profile.thinking[1])  # a delimiter without token ids
    elif state == "closed":
        written = written.rpartition(profile.thinking[1])[0]
    if (state == "closed" or not completion.is_truncated) and is_safe_end(written):
        at: int | None = len(written) if len(written) > after else None
    elif state == "none" and not completion.is_truncated:
        at = None  # truncating a finished text could change its answer
    else:
        at = last_safe_point(written, after=after)
    return None if at is None else truncated(completion, at, in_reasoning=is_separate)
