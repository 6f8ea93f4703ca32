"""Fixtures of the tests of runs."""

import pytest

from secondpass.strategies import prompts


@pytest.fixture
def own_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts for a critic and for labels that no strategy has."""
    own = {"check": "Is {draft} right?", "is_right": "Is this right?"}
    monkeypatch.setattr(prompts, "PROMPTS", {**prompts.PROMPTS, **own})
