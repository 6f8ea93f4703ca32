"""Construction of a run's calls: messages, sampling parameters, seeds and sessions."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from secondpass.service.runs.answer_format import with_answer_format, with_text
from secondpass.service.runs.run_spec import RoleDefaults, RunSpec
from secondpass.strategies import prompts
from secondpass.strategies.api import quoting
from secondpass.strategies.api.conversations import question_of
from secondpass.strategies.api.engine import Call, Routing
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.run import DEFAULT_DRAW, After
from secondpass.strategies.api.values import (
    SOLVE,
    Completion,
    Draw,
    Message,
    Role,
    Sampling,
)


class CallBuilder:
    """Builds the calls of one run."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._opening_messages = opening_messages(spec)
        seed = spec.sampling.seed
        # Candidates cannot guess it. With a seed, the boundaries are reproducible.
        self._secret = secrets.token_bytes(16) if seed is None else b"seed %d" % seed

    def disarmed(self, text: str) -> str:
        """Return text of a model with the control tokens of every engine of the run broken.

        All engines count, because a draft takes its conversation along when another role reads it.
        """
        return quoting.disarm(text, self._control_tokens)

    @property
    def _control_tokens(self) -> frozenset[str]:
        engines = (upstream.engine for upstream in self._spec.upstreams.values())
        return frozenset[str]().union(*{engine.control_tokens for engine in engines})

    @property
    def question(self) -> str:
        """The text of the last user turn; see `question_of`."""
        return question_of(self._spec.messages)

    def conversation(
        self, prompt: str, values: Mapping[str, Value], after: After = None, *, reply: str = ""
    ) -> tuple[Message, ...]:
        """Return the client's conversation for SOLVE, else the filled prompt placed as `after` specifies.

        Candidate text in `values` is quoted, and a draft in `after` is disarmed. `reply`, a reply-format instruction, becomes the last paragraph of the
        prompt. Raises ValueError for SOLVE with values or `reply`.
        """
        if prompt == SOLVE:
            if values or reply:
                raise ValueError(
                    f"prompt: {SOLVE!r} is the client's own conversation and takes neither values nor a reply format"
                )
            return self._opening_messages
        boundary = quoting.boundary_of(self._secret, prompt, values)
        text = prompts.fill(prompt, quoting.quoted(values, boundary, self._control_tokens))
        text = f"{text}\n\n{reply}" if reply else text
        if after == "question":
            return with_text(self._opening_messages, text)
        turn = Message(role="user", content=text)
        if after is None:
            return (turn,)
        draft = after if isinstance(after, Completion) else after.completion
        own = Message(role="assistant", content=self.disarmed(draft.text))
        return (*draft.messages, own, turn)

    def reply_instruction(self, name: str, **values: str) -> str:
        """Return the filled reply-format instruction of this name."""
        return prompts.fill(name, values)

    def default_temperature(self, role: Role) -> float | None:
        """Return the temperature configured for a role."""
        return self._defaults(role).temperature

    def _defaults(self, role: Role) -> RoleDefaults:
        return self._spec.defaults.get(role, RoleDefaults())

    def index_ranges(self, n: int, batch: int, *, is_one_session: bool = False) -> list[range]:
        """Split n completions into requests of at most `batch`, none with drafts of two sessions.

        With `is_one_session`, all completions share a session, as continuations of one draft do.
        """
        size = n if is_one_session else self._spec.session_group or n
        starts = sorted({*range(0, n, size), *_first_indices(n, size, batch)})
        return [range(*pair) for pair in pairwise((*starts, n))]

    def _routing_of(self, index: int) -> Routing:
        """Return the routing of a call about draft `index`.

        A redraw has the index of its draft plus a multiple of the number of drafts.
        """
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
        draw: Draw = DEFAULT_DRAW,
        resumable: bool = False,
        is_verdict: bool = False,
    ) -> Call:
        """Build a call.

        A sampling parameter is taken from `draw`, else from the client (answers of the actor only), else from the
        settings. `max_tokens` is the smaller of the draw's and the client's. The stop strings of both are combined; the
        text of a resumable call excludes those that only the client set. The call has the session of draft `session_of`
        (default: `index`). With `is_verdict` the client's sampling parameters are ignored.
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
        caps = [cap for cap in (draw.max_tokens, sampling.max_tokens) if cap is not None]
        default_cap = defaults.max_tokens or self._spec.max_tokens_per_call
        changes: dict[str, Any] = {"max_tokens": min(caps, default=default_cap)}
        for temperature in (draw.temperature, sampling.temperature, defaults.temperature):
            if temperature is not None:
                changes["temperature"] = temperature
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


def _first_indices(n: int, size: int, batch: int) -> Iterator[int]:
    """Yield the first index of each request, for groups of `size` drafts in requests of up to `batch`."""
    for start in range(0, n, size):
        yield from range(start, min(start + size, n), batch)


def draft_of(after: After, index: int) -> int:
    """Return the index of the draft in `after`, or `index` if `after` has no draft."""
    if after is None or isinstance(after, str):
        return index
    return (after if isinstance(after, Completion) else after.completion).index


def opening_messages(spec: RunSpec) -> tuple[Message, ...]:
    """Return the client's messages, with the answer-format instruction of an explicit task."""
    return with_answer_format(spec.messages, spec.task) if spec.task_is_explicit else spec.messages


def _seed_of(call: Call, seed: int, offset: int) -> int:
    """Return the seed of a call: the client's seed plus the index, in a separate series per purpose."""
    series = 0 if call.purpose == SOLVE else zlib.crc32(call.purpose.encode())
    return (seed + series + call.index + offset) % 2**62
