"""How a question asks for its answer: the format instruction of an explicit task, as its last paragraph."""

from __future__ import annotations

from secondpass.strategies import prompts
from secondpass.strategies.answers.task import Task, format_prompt
from secondpass.strategies.api.values import ContentPart, Message, TextPart


def instructed(messages: tuple[Message, ...], task: Task) -> tuple[Message, ...]:
    """`messages` with the task's answer format in the last user turn; as they are where the task has none."""
    name = format_prompt(task)
    if name is None:
        return messages
    known = {"letters": ", ".join(task.letters)}
    values = {key: known[key] for key in prompts.placeholders(name)}
    return with_text(messages, _unseen_options(messages, task) + prompts.fill(name, values))


def _unseen_options(messages: tuple[Message, ...], task: Task) -> str:
    """The task's options, a line each, unless the conversation names them all already."""
    said = "\n".join(message.text for message in messages)
    if all(option in said for option in task.options):
        return ""
    options = zip(task.letters, task.options, strict=True)
    return "\n".join(f"{letter}) {option}" for letter, option in options) + "\n\n"


def with_text(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """`messages` with `text` as the last paragraph of the last user turn."""
    last = max(i for i, message in enumerate(messages) if message.role == "user")
    turn = messages[last]
    content: str | tuple[ContentPart, ...] = f"{turn.text}\n\n{text}"
    if isinstance(turn.content, tuple):
        content = (*turn.content, TextPart(type="text", text=text))
    return (*messages[:last], turn.model_copy(update={"content": content}), *messages[last + 1 :])
