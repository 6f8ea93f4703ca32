"""Judging verbs: label classification, critiques, pairwise comparisons and reward scores.

A verdict is read from label probabilities if the engine returns them, else from a reply constrained to a JSON schema,
else from text. Replies are parsed strictly; an unreadable one is retried once. Strategies get the same result type in
each case.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from secondpass.service.common.concurrency import run_all
from secondpass.service.common.events import VerdictRecorded
from secondpass.service.runs.base import Verbs
from secondpass.service.runs.call_builder import draft_of
from secondpass.strategies import prompts
from secondpass.strategies.api import quoting
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import DegenerateCandidate, VerdictUnreadable
from secondpass.strategies.api.handles import StepStream
from secondpass.strategies.api.judgements import Judgement, Preference, ReadingMethod, preference_of
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.run import DEFAULT_DRAW, After
from secondpass.strategies.api.values import (
    Candidate,
    Completion,
    Draw,
    Message,
    Role,
    Sampling,
)
from secondpass.strategies.judging.reply_schemas import (
    example_of,
    label_schema,
    parse_label,
    parse_label_object,
    parse_reply,
)

M = TypeVar("M", bound=BaseModel)
X = TypeVar("X")

LABEL_REPLY_TOKENS = 64
"""Default completion-token cap of a verdict that is a label without reasons."""


class JudgingVerbs(Verbs):
    """The judging verbs of `strategies.api.run.Run`."""

    async def score(
        self,
        subject: Completion | StepStream | Candidate | str,
        *,
        messages: Sequence[Message] | None = None,
    ) -> float:
        if isinstance(subject, str):
            question, text, index = self.spec.messages, subject, 0
        elif isinstance(subject, Candidate):
            question, text, index = self.spec.messages, subject.text, subject.index
        else:
            draft = subject if isinstance(subject, Completion) else subject.completion
            question, text, index = draft.messages, draft.text, draft.index
        turn = Message(role="assistant", content=self._builder.disarmed(text))
        conversation = (*(question if messages is None else messages), turn)
        call = self._builder.call("reward", "reward", conversation, session_of=index)
        reward = await self._calls.reward(replace(call, reward=True, sampling=Sampling()))
        self._record_verdict(call.role, call.purpose, reward=reward)
        return reward

    async def classify(
        self,
        prompt: str,
        labels: Sequence[str],
        *,
        after: After = None,
        role: Role = "judge",
        index: int = 0,
        draw: Draw = DEFAULT_DRAW,
        **values: Value,
    ) -> Judgement:
        _check_labels(labels)
        how = self._reading_method(role, prompt)
        reply = self._label_instruction(prompt, labels, how)
        messages = self._judging_messages(prompt, values, after, role, reply)
        session_of = draft_of(after, index)
        if how == "labels":
            return await self._read_labels(
                self._label_call(prompt, labels, role, messages, session_of)
            )
        parse = parse_label_object if how == "schema" else parse_label
        call = self._verdict_call(
            prompt, role, messages, index, session_of, draw, LABEL_REPLY_TOKENS
        )
        if how == "schema":
            call = replace(call, schema=json.dumps(label_schema(labels), sort_keys=True))
        _, verdict = await self._read_strictly(call, reply, how, lambda text: parse(text, labels))
        self._record_verdict(role, prompt, verdict=verdict, how=how)
        return Judgement(verdict=verdict, how=how)

    async def critique(
        self,
        prompt: str,
        shape: type[M],
        *,
        after: After = None,
        role: Role = "critic",
        index: int = 0,
        draw: Draw = DEFAULT_DRAW,
        **values: Value,
    ) -> tuple[Completion, M]:
        reply = self._builder.reply_instruction("reply_json", shape=example_of(shape))
        messages = self._judging_messages(prompt, values, after, role, reply)
        call = self._verdict_call(prompt, role, messages, index, draft_of(after, index), draw)
        how: ReadingMethod = "text"
        if "schema" in self._calls.engine(role).capabilities:
            how = "schema"
            # Unsorted: engines generate the fields in schema order, so that reasons precede the verdict.
            call = replace(call, schema=json.dumps(shape.model_json_schema()))
        completion, review = await self._read_strictly(
            call, reply, how, lambda text: parse_reply(text, shape)
        )
        fields = review.model_dump()
        verdict = fields.get("verdict")
        self._record_verdict(
            role,
            prompt,
            verdict=verdict if isinstance(verdict, str) else None,
            how=how,
            reply=fields,
        )
        return completion, review

    async def compare(
        self,
        a: Candidate,
        b: Candidate,
        *,
        prompt: str = "prefer",
        role: Role = "judge",
        index: int = 0,
        draw: Draw = DEFAULT_DRAW,
    ) -> Preference:
        empty_a, empty_b = (quoting.degenerate(each.text) for each in (a, b))
        if empty_a or empty_b:
            winner: Literal["a", "b"] | None = (
                None if empty_a and empty_b else "b" if empty_a else "a"
            )
            preference = Preference(winner=winner)
        else:
            preference = await self._compare_both_orders(a, b, prompt, role, index, draw)
        self._record_verdict(role, prompt, verdict=preference.winner or "tie")
        return preference

    async def _compare_both_orders(
        self, a: Candidate, b: Candidate, prompt: str, role: Role, index: int, draw: Draw
    ) -> Preference:
        """Compare both orders concurrently, with the indices `2 * index` and `2 * index + 1`."""
        judgements: dict[int, Judgement] = {}
        conclude = self.model("actor").profile.conclusion

        async def judge(order: int, first: Candidate, second: Candidate) -> None:
            judgements[order] = await self.classify(
                prompt,
                ("A", "B"),
                role=role,
                index=2 * index + order,
                draw=draw,
                question=self._builder.question,
                candidate_a=conclude(first.text),
                candidate_b=conclude(second.text),
            )

        await run_all(partial(judge, 0, a, b), partial(judge, 1, b, a))
        return preference_of(judgements[0], judgements[1])

    # -- internals ----------------------------------------------------------------------------------

    def _judging_messages(
        self, prompt: str, values: Mapping[str, Value], after: After, role: Role, reply: str
    ) -> tuple[Message, ...]:
        """Return the messages of a judging call. Raises DegenerateCandidate for text without content."""
        judged = _judged_texts(values)
        if after is not None and not isinstance(after, str):
            after = self._shown_to_judge(after)
            judged.append(after.text)
        for text in judged:
            if why := quoting.degenerate(text):
                raise DegenerateCandidate(f"nothing for the {role} to judge: {why}")
        return self._builder.conversation(prompt, values, after, reply=reply)

    def _shown_to_judge(self, draft: Completion | StepStream) -> Completion:
        """Return the draft to show to a judge, without its reasoning."""
        completion = draft if isinstance(draft, Completion) else draft.completion
        return completion.with_text(self.model(completion.role).profile.conclusion(completion.text))

    def _reading_method(self, role: Role, prompt: str) -> ReadingMethod:
        """Choose how to read a label. A prompt with its own reply format rules out a schema."""
        capabilities = self._calls.engine(role).capabilities
        if "labels" in capabilities:
            return "labels"
        has_own_format = prompts.has_reply_format(prompt)
        return "schema" if "schema" in capabilities and not has_own_format else "text"

    def _label_instruction(self, prompt: str, labels: Sequence[str], how: ReadingMethod) -> str:
        """Return the reply-format instruction, or "" if the prompt has its own."""
        if prompts.has_reply_format(prompt):
            return ""
        if how == "schema":
            shape = f'{{"verdict": "{" | ".join(labels)}"}}'
            return self._builder.reply_instruction("reply_json", shape=shape)
        return self._builder.reply_instruction("reply_label", labels=", ".join(labels))

    async def _read_labels(self, call: Call) -> Judgement:
        """Read a verdict from label probabilities. Raises VerdictUnreadable."""
        try:
            reading = await self._calls.read(call)
        except VerdictUnreadable as error:
            self._record_unreadable(call, error, "labels")
            raise
        verdict = max(call.labels, key=reading.probabilities.__getitem__)
        self._record_verdict(call.role, call.purpose, verdict=verdict, how="labels", labels=reading)
        return Judgement(
            verdict=verdict, how="labels", probabilities=reading.probabilities, mass=reading.mass
        )

    def _label_call(
        self,
        prompt: str,
        labels: Sequence[str],
        role: Role,
        messages: tuple[Message, ...],
        session_of: int,
    ) -> Call:
        draw = Draw(temperature=0, max_tokens=1)
        call = self._builder.call(prompt, role, messages, session_of=session_of, draw=draw)
        return replace(call, labels=tuple(labels), thinking=False)

    def _verdict_call(
        self,
        prompt: str,
        role: Role,
        messages: tuple[Message, ...],
        index: int,
        session_of: int,
        draw: Draw,
        cap: int | None = None,
    ) -> Call:
        """Build a call for a written verdict.

        `cap` limits its tokens unless `draw` sets a limit or the model reasons.
        """
        profile = self.model(role).profile
        requested = draw.temperature
        if requested is None:
            requested = self._builder.default_temperature(role)
        temperature = profile.judge_temperature(requested)
        if requested is not None and temperature != requested:
            note = f"{temperature} instead of {requested}, because the model reasons"
            self.note(f"{role} temperature", note)
        max_tokens = draw.max_tokens
        if max_tokens is None and not profile.is_thinking:
            max_tokens = cap
        call = self._builder.call(
            prompt,
            role,
            messages,
            index=index,
            session_of=session_of,
            draw=replace(draw, temperature=temperature, max_tokens=max_tokens),
            is_verdict=True,
        )
        return self._with_batched_deltas(call)

    async def _read_strictly(
        self, call: Call, reply: str, how: ReadingMethod, parse: Callable[[str], X]
    ) -> tuple[Completion, X]:
        """Return a reply and its parsed value, after at most one retry. Raises VerdictUnreadable."""
        conclude = self.model(call.role).profile.conclusion
        request = call
        for is_last in (False, True):
            replies: list[Completion] = []
            try:
                await self._calls.perform(request, replies.append, allow_empty=True)
                parsed = parse(conclude(replies[0].text))
            except VerdictUnreadable as error:
                if is_last:
                    unreadable = VerdictUnreadable(
                        f"the {call.role}'s reply: {error}", role=call.role
                    )
                    self._record_unreadable(call, unreadable, how)
                    raise unreadable from error
                request = self._retry_of(call, replies[0], reply)
            else:
                return replace(replies[0], messages=call.messages), parsed
        raise AssertionError("unreachable")  # pragma: no cover

    def _record_unreadable(self, call: Call, error: VerdictUnreadable, how: ReadingMethod) -> None:
        self.count_failure(error)
        self._record_verdict(call.role, call.purpose, how=how, error=str(error))

    def _retry_of(self, call: Call, unreadable: Completion, reply: str) -> Call:
        """Return the retry of a call, with the unreadable reply (unless empty) and a correction appended."""
        if not unreadable.text.strip():
            return call
        turns = (
            Message(role="assistant", content=self._builder.disarmed(unreadable.text)),
            Message(
                role="user", content=self._builder.reply_instruction("reply_again", reply=reply)
            ),
        )
        return replace(call, messages=(*call.messages, *turns))

    def _record_verdict(self, role: Role, purpose: str, **details: Any) -> None:
        self.trace.emit(
            VerdictRecorded(at=self.trace.elapsed, role=role, purpose=purpose, **details)
        )


def _judged_texts(values: Mapping[str, Value]) -> list[str]:
    """Return the texts among the values that are to be judged."""
    texts: list[str] = []
    for name, value in values.items():
        if quoting.is_judged(name):
            texts += [value] if isinstance(value, str) else value
    return texts


def _check_labels(labels: Sequence[str]) -> None:
    """Raise TypeError for a single text, ValueError for labels that their first token cannot distinguish.

    Engines that know their tokens reject further labels.
    """
    if isinstance(labels, str):
        raise TypeError(f"labels: must be a sequence of texts, not the text {labels!r}")
    plain = [label.strip().casefold() for label in labels]
    if len(labels) < 2 or len(set(plain)) < len(labels) or "" in plain:
        raise ValueError(
            f"labels: must be at least two distinct non-empty texts, not {list(labels)}"
        )
    for (one, first), (other, second) in permutations(zip(labels, plain, strict=True), 2):
        if second.startswith(first):
            raise ValueError(
                f"labels: {one!r} is a prefix of {other!r}; choose labels that differ in the first token"
            )
