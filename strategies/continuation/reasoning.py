"""Where in a completion a doubt may be put: inside its thoughts where the model thinks, else after its text. Pure."""

from __future__ import annotations

from typing import Literal

from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.values import Completion
from secondpass.strategies.continuation.safe_points import is_safe_end, safe_end
from secondpass.strategies.continuation.segments import cut, is_in_thoughts

Mind = Literal["none", "open", "closed"]


def mind(completion: Completion, profile: Profile) -> Mind:
    """Are there thoughts, and are they over? Engines tell them apart from the text, or leave them in it with their marks.

    A text without marks of a model that thinks is all thought while it is cut, since the opening mark may stand in the
    prompt; once it is finished there were none.
    """
    opening, closing = profile.thinking
    if completion.reasoning:
        return "open" if is_in_thoughts(completion) else "closed"
    if closing in completion.text:
        return "closed"
    is_thought = opening in completion.text or (profile.is_thinking and completion.is_truncated)
    return "open" if is_thought else "none"


def doubted(completion: Completion, profile: Profile, *, after: int = 0) -> Completion | None:
    """The completion up to where a doubt may follow, or None where there is no such place.

    Closed thoughts are reopened. What is over ends there if nothing is open in it; what breaks off ends at the last
    line or sentence that lies beyond `after` characters (of the thoughts, where they are told apart, else of the text).
    """
    state = mind(completion, profile)
    is_apart = bool(completion.reasoning)
    written = completion.reasoning if is_apart else completion.text
    if state == "closed" and not is_apart:
        written = written.rpartition(profile.thinking[1])[0]
    if (state == "closed" or not completion.is_truncated) and is_safe_end(written):
        at: int | None = len(written) if len(written) > after else None
    elif state == "none" and not completion.is_truncated:
        at = None  # what is finished is not cut back: it would be another answer
    else:
        at = safe_end(written, after=after)
    return None if at is None else cut(completion, at, in_thoughts=is_apart)
