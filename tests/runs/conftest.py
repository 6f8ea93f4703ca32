"""Fixtures for the tests of runs."""

import pytest

from secondpass.strategies import prompts


@pytest.fixture
def own_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add prompts for judges and critics that no strategy uses."""
    own = {
        "check": "Is {draft} right?",
        "is_right": "Is this right?",
        "rate": "{question}\n\n{candidate}\n\nIs it right?",
        "pick": "Which?\n\n{candidates}",
        "hint": "Not {tried}.",
        "curt": "Is this right?\nReply with yes or no.",
    }
    monkeypatch.setattr(prompts, "PROMPTS", {**prompts.PROMPTS, **own})
