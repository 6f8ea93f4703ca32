"""How a verb becomes a call: whose messages, which sampling, which seed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from secondpass.service.instructions import instructed
from secondpass.service.job import Job
from secondpass.strategies import prompts
from secondpass.strategies.core import (
    SOLVE,
    Call,
    Completion,
    Message,
    Role,
    Sampling,
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
    return instructed(job.messages, job.task) if job.task_is_explicit else job.messages


def _seed_of(call: Call, seed: int) -> int:
    """Sample i of the question is drawn with the seed plus i; another purpose has a series of its own."""
    series = 0 if call.purpose == SOLVE else zlib.crc32(call.purpose.encode())
    return (seed + series + call.index) % 2**62
