"""Reading of conversations."""

from __future__ import annotations

from collections.abc import Sequence

from secondpass.strategies.api.values import Message


def question_of(messages: Sequence[Message]) -> str:
    """Return the text of the last user turn; without one, of the last turn with text, else ""."""
    users = [message for message in messages if message.role == "user"]
    texts = [message.text for message in users or messages]
    return next((text for text in reversed(texts) if users or text.strip()), "")
