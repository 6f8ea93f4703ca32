"""Answer-format instructions of explicit tasks, appended to the question."""

from __future__ import annotations

from secondpass.strategies import prompts
from secondpass.strategies.answers.task import Task, format_prompt
from secondpass.strategies.api.values import ContentPart, Message, TextPart


def with_answer_format(messages: tuple[Message, ...], task: Task) -> tuple[Message, ...]:
    """Append the task's answer-format instruction to the last user turn, if the task has one."""
    name = format_prompt(task)
    if name is None:
        return messages
    available = {"letters": ", ".join(task.letters)}
    values = {key: available[key] for key in prompts.placeholders(name)}
    return with_text(messages, _unseen_options(messages, task) + prompts.fill(name, values))


def _unseen_options(messages: tuple[Message, ...], task: Task) -> str:
    """Return the task's options, one per line, or "" if the conversation contains all of them."""
    conversation = "\n".join(message.text for message in messages)
    if all(option in conversation for option in task.options):
        return ""
    options = zip(task.letters, task.options, strict=True)
    return "\n".join(f"{letter}) {option}" for letter, option in options) + "\n\n"


def with_text(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """Append `text` to the last user turn, as a paragraph of its own; without one, as a user turn."""
    users = [i for i, message in enumerate(messages) if message.role == "user"]
    if not users:
        return (*messages, Message(role="user", content=text))
    last = users[-1]
    turn = messages[last]
    content: str | tuple[ContentPart, ...] = f"{turn.text}\n\n{text}"
    if isinstance(turn.content, tuple):
        content = (*turn.content, TextPart(type="text", text=text))
    return (*messages[:last], turn.model_copy(update={"content": content}), *messages[last + 1 :])
