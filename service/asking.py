"""How a verb becomes a call: whose messages, which sampling, which seed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from secondpass.service.job import Job
from secondpass.strategies import prompts, tasks
from secondpass.strategies.core import (
    SOLVE,
    Call,
    Completion,
    ContentPart,
    Message,
    Role,
    Sampling,
    TextPart,
)


class Asking:
    """Builds the calls of one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._opening = opening(job)

    def conversation(
        self, prompt: str, values: Mapping[str, str], after: Completion | None = None
    ) -> tuple[Message, ...]:
        """The client's own conversation for SOLVE; else the filled prompt, as a fresh one or as a further turn."""
        if prompt == SOLVE:
            return self._opening
        turn = Message(role="user", content=prompts.fill(prompt, values))
        if after is None:
            return (turn,)
        return (*after.messages, Message(role="assistant", content=after.text), turn)

    def call(
        self,
        purpose: str,
        role: Role,
        messages: tuple[Message, ...],
        *,
        index: int = 0,
        n: int = 1,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Call:
        """The call, with the client's sampling where it is the actor's, then the strategy's own, then its seed."""
        call = Call(
            role=role,
            purpose=purpose,
            messages=messages,
            n=n,
            index=index,
            session=self._job.session or self._job.id,
            cache_salt=self._job.cache_salt,
            traceparent=self._job.traceparent,
        )
        sampling = self._job.sampling if role == "actor" else Sampling()
        given = [cap for cap in (max_tokens, sampling.max_tokens) if cap is not None]
        changes: dict[str, Any] = {"max_tokens": min(given, default=self._job.max_tokens_per_call)}
        if temperature is not None:
            changes["temperature"] = temperature
        if self._job.sampling.seed is not None:
            changes["seed"] = _seed_of(call, self._job.sampling.seed)
        return replace(call, sampling=sampling.model_copy(update=changes))


def opening(job: Job) -> tuple[Message, ...]:
    """The client's messages; with an explicit task its answer format is a last paragraph of the question."""
    name = tasks.format_prompt(job.task) if job.task_is_explicit else None
    if name is None:
        return job.messages
    known = {"letters": ", ".join(job.task.letters)}
    values = {key: known[key] for key in prompts.placeholders(name)}
    return _with_text(job.messages, _unseen_options(job) + prompts.fill(name, values))


def _unseen_options(job: Job) -> str:
    """The task's options, a line each, unless the conversation names them all already."""
    said = "\n".join(message.text for message in job.messages)
    if all(option in said for option in job.task.options):
        return ""
    options = zip(job.task.letters, job.task.options, strict=True)
    return "\n".join(f"{letter}) {option}" for letter, option in options) + "\n\n"


def _with_text(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    last = max(i for i, message in enumerate(messages) if message.role == "user")
    turn = messages[last]
    content: str | tuple[ContentPart, ...] = f"{turn.text}\n\n{text}"
    if isinstance(turn.content, tuple):
        content = (*turn.content, TextPart(type="text", text=text))
    return (*messages[:last], turn.model_copy(update={"content": content}), *messages[last + 1 :])


def _seed_of(call: Call, seed: int) -> int:
    """Sample i of the question is drawn with the seed plus i; another purpose has a series of its own."""
    series = 0 if call.purpose == SOLVE else zlib.crc32(call.purpose.encode())
    return (seed + series + call.index) % 2**62
