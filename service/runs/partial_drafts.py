"""Drafts that a run returns when a limit ends it before it has an answer."""

from __future__ import annotations

from secondpass.service.runs.generation import EXTEND
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.quoting import degenerate
from secondpass.strategies.api.values import SOLVE, Completion
from secondpass.strategies.continuation.reasoning import reasoning_state


class PartialDrafts:
    """Drafts of the actor with text, finished or truncated, none of which the strategy has proposed."""

    def __init__(self) -> None:
        self._drafts: list[tuple[Call, Completion]] = []

    def add(self, call: Call, draft: Completion) -> None:
        """Keep a draft of the actor. Other completions and blank ones are ignored."""
        if call.role == "actor" and call.purpose in (SOLVE, EXTEND) and draft.text.strip():
            self._drafts.append((call, draft))

    def best(self, profile: Profile, *, is_visible: bool) -> Completion | None:
        """Return the best draft: finished, without repetition, with the longest text, of the lowest index.

        Drafts that consist of reasoning do not count, by the delimiters of `profile`. With `is_visible` only drafts that
        were streamed to the client count.
        """
        drafts = [
            draft
            for call, draft in self._drafts
            if (call.visible or not is_visible) and reasoning_state(draft, profile) != "open"
        ]
        return max(drafts, key=_rank, default=None)


def _rank(draft: Completion) -> tuple[bool, bool, int, int]:
    text = draft.text
    return not draft.is_truncated, degenerate(text) is None, len(text), -draft.index
