"""Where a reflection prompt may be inserted: inside the reasoning of a model that reasons, else after its text. Pure."""

from __future__ import annotations

from typing import Literal

from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.values import Completion
from secondpass.strategies.continuation.safe_points import is_safe_end, safe_end
from secondpass.strategies.continuation.segments import is_in_reasoning, truncated

ReasoningState = Literal["none", "open", "closed"]


def reasoning_state(completion: Completion, profile: Profile) -> ReasoningState:
    """Whether a completion has reasoning, and whether it is closed.

    Engines return reasoning apart from the text, or leave it there between its marks. A text without marks of a model
    that reasons is all reasoning while it is truncated, since the opening mark may be a part of the prompt; a finished
    one has none.
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
    """The completion truncated at the point where a reflection prompt may follow; None without such a point.

    Closed reasoning is reopened. A finished part ends where it does, if nothing is open there; a truncated one ends at
    its last line or sentence beyond `after` characters (of the reasoning, where it is returned apart, else of the text).
    """
    state = reasoning_state(completion, profile)
    is_apart = bool(completion.reasoning)
    written = completion.reasoning if is_apart else completion.text
    if is_apart:
        written = written.removesuffix(profile.thinking[1])  # a mark without token ids
    elif state == "closed":
        written = written.rpartition(profile.thinking[1])[0]
    if (state == "closed" or not completion.is_truncated) and is_safe_end(written):
        at: int | None = len(written) if len(written) > after else None
    elif state == "none" and not completion.is_truncated:
        at = None  # a finished text is not truncated: that would be another answer
    else:
        at = safe_end(written, after=after)
    return None if at is None else truncated(completion, at, in_reasoning=is_apart)
