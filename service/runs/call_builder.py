"""How a verb becomes a call: whose messages, which sampling, which seed."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from secondpass.service.runs.answer_format import instructed, with_text
from secondpass.service.runs.run_spec import RoleDefaults, RunSpec
from secondpass.strategies import prompts
from secondpass.strategies.api import quoting
from secondpass.strategies.api.engine import Call, Routing
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.run import AS_ASKED, After
from secondpass.strategies.api.values import SOLVE, Completion, Draw, Message, Role, Sampling


class CallBuilder:
    """Builds the calls of one run."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._opening = opening(spec)
        seed = spec.sampling.seed
        # Nobody who writes a candidate knows it; with a seed a run has the same boundaries again.
        self._secret = secrets.token_bytes(16) if seed is None else b"seed %d" % seed

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return next((m.text for m in reversed(self._spec.messages) if m.role == "user"), "")

    def conversation(
        self, prompt: str, values: Mapping[str, Value], after: After = None, *, reply: str = ""
    ) -> tuple[Message, ...]:
        """The client's own conversation for SOLVE; else the filled prompt, said where `after` says.

        Candidate text among the values is quoted. `reply`, how to reply, is the prompt's last paragraph.
        """
        if prompt == SOLVE:
            if values or reply:
                raise ValueError(
                    f"the prompt {SOLVE!r} is the client's own conversation: it takes no values, and no verdict answers it"
                )
            return self._opening
        boundary = quoting.boundary_of(self._secret, prompt, values)
        text = prompts.fill(prompt, quoting.quoted(values, boundary))
        text = f"{text}\n\n{reply}" if reply else text
        if after == "question":
            return with_text(self._opening, text)
        turn = Message(role="user", content=text)
        if after is None:
            return (turn,)
        draft = after if isinstance(after, Completion) else after.completion
        return (*draft.messages, Message(role="assistant", content=draft.text), turn)

    def reply_to(self, name: str, **values: str) -> str:
        """A prompt that says how to reply."""
        return prompts.fill(name, values)

    def temperature_of(self, role: Role) -> float | None:
        """The temperature that the settings give a role."""
        return self._defaults(role).temperature

    def _defaults(self, role: Role) -> RoleDefaults:
        return self._spec.defaults.get(role, RoleDefaults())

    def portions(self, n: int, batch: int, *, of_one: bool = False) -> list[range]:
        """The completions of each call where up to `batch` of n are drawn at once: no call has drafts of two sessions.

        Continuations `of_one` draft have its session.
        """
        size = n if of_one else self._spec.session_group or n
        starts = sorted({*range(0, n, size), *_steps(n, size, batch)})
        return [range(*pair) for pair in pairwise((*starts, n))]

    def _routing_of(self, index: int) -> Routing:
        """The routing of a call about draft `index`; what tries a draft again has its index plus a multiple of all drafts."""
        routing, size = self._spec.routing, self._spec.session_group
        if size is None:
            return routing
        group = index % max(1, self._spec.params.chains) // size
        return replace(routing, session=f"{routing.session}-{group}") if group else routing

    def call(
        self,
        purpose: str,
        role: Role,
        messages: tuple[Message, ...],
        *,
        index: int = 0,
        session_of: int | None = None,
        n: int = 1,
        draw: Draw = AS_ASKED,
        resumable: bool = False,
        is_verdict: bool = False,
    ) -> Call:
        """The call: drawn as `draw` says, then as the client (only the actor's answers), then as the settings say.

        A call about another draft than `index` has the session of that one (`session_of`). Stop strings are the client's
        and the draw's together; of a resumable call the client's are left out of the text afterwards.
        """
        call = Call(
            role=role,
            purpose=purpose,
            messages=messages,
            n=n,
            index=index,
            logprobs=draw.logprobs,
            resumable=resumable,
            routing=self._routing_of(index if session_of is None else session_of),
            cache_salt=self._spec.cache_salt,
            traceparent=self._spec.traceparent,
        )
        sampling = self._spec.sampling if role == "actor" and not is_verdict else Sampling()
        defaults = self._defaults(role)
        given = [cap for cap in (draw.max_tokens, sampling.max_tokens) if cap is not None]
        usual = defaults.max_tokens or self._spec.max_tokens_per_call
        changes: dict[str, Any] = {"max_tokens": min(given, default=usual)}
        for wanted in (draw.temperature, sampling.temperature, defaults.temperature):
            if wanted is not None:
                changes["temperature"] = wanted
                break
        if draw.top_p is not None:
            changes["top_p"] = draw.top_p
        excluded = tuple(each for each in sampling.stop or () if each not in draw.stop)
        if draw.stop:
            changes["stop"] = (*excluded, *draw.stop)
        if self._spec.sampling.seed is not None:
            changes["seed"] = _seed_of(call, self._spec.sampling.seed, draw.seed_offset)
        return replace(
            call,
            sampling=sampling.model_copy(update=changes),
            excluded_stop=excluded if resumable else (),
        )


def _steps(n: int, size: int, batch: int) -> Iterator[int]:
    """Where calls begin, when each group of `size` drafts is drawn up to `batch` at a time."""
    for start in range(0, n, size):
        yield from range(start, min(start + size, n), batch)


def draft_of(after: After, index: int) -> int:
    """The index of the draft that a call follows; `index` where it follows none."""
    if after is None or isinstance(after, str):
        return index
    return (after if isinstance(after, Completion) else after.completion).index


def opening(spec: RunSpec) -> tuple[Message, ...]:
    """The client's messages; with an explicit task its answer format is a last paragraph of the question."""
    return instructed(spec.messages, spec.task) if spec.task_is_explicit else spec.messages


def _seed_of(call: Call, seed: int, offset: int) -> int:
    """The seed of a call: sample i of the question has the client's seed plus i, another purpose a series of its own."""
    series = 0 if call.purpose == SOLVE else zlib.crc32(call.purpose.encode())
    return (seed + series + call.index + offset) % 2**62
