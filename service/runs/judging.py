"""The verbs that have a model judge: labels, verdicts, critiques, comparisons, rewards.

How a verdict is read depends on the engine, what a strategy gets does not: label probabilities where the engine gives
them, a reply held to a schema where it can, else text that is parsed strictly and asked for once more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from secondpass.service.common.concurrency import task_group
from secondpass.service.common.events import VerdictSeen
from secondpass.service.runs.base import Verbs
from secondpass.service.runs.call_builder import draft_of
from secondpass.strategies.api import quoting
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import (
    DegenerateCandidate,
    UnusableCompletion,
    VerdictUnreadable,
)
from secondpass.strategies.api.judgements import How, Judgement, Preference, preference_of
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.run import After, Draft
from secondpass.strategies.api.values import (
    Candidate,
    Completion,
    LabelRead,
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

WORDS = 64
"""Completion tokens of a verdict without reasons."""


class JudgingVerbs(Verbs):
    """See `strategies.api.run.Run`."""

    # -- probabilities and rewards, from engines that have them ---------------------------------------

    async def probe(
        self,
        completion: Completion | Draft,
        prompt: str,
        labels: Sequence[str],
        *,
        role: Role = "actor",
        **values: Value,
    ) -> LabelRead:
        _check_labels(labels)
        shown = self._shown(completion)
        messages = self._asking.conversation(prompt, values, shown)
        return await self._read(self._label_call(prompt, labels, role, messages, shown.index))

    async def labels(
        self, prompt: str, labels: Sequence[str], *, role: Role = "judge", **values: Value
    ) -> LabelRead:
        _check_labels(labels)
        messages = self._asking.conversation(prompt, values)
        return await self._read(self._label_call(prompt, labels, role, messages))

    async def reward(
        self, completion: Completion | Draft | str, *, messages: Sequence[Message] | None = None
    ) -> float:
        if isinstance(completion, str):
            asked, text, index = self.spec.messages, completion, 0
        else:
            draft = completion if isinstance(completion, Completion) else completion.completion
            asked, text, index = draft.messages, draft.text, draft.index
        turn = Message(role="assistant", content=text)
        conversation = (*(asked if messages is None else messages), turn)
        call = self._asking.call("reward", "reward", conversation, draft=index)
        reward = await self._calls.reward(replace(call, reward=True, sampling=Sampling()))
        self._saw(call.role, call.purpose, reward=reward)
        return reward

    # -- verdicts, from any engine that writes --------------------------------------------------------

    async def judge(
        self,
        prompt: str,
        labels: Sequence[str],
        *,
        after: After = None,
        role: Role = "judge",
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **values: Value,
    ) -> Judgement:
        _check_labels(labels)
        capabilities = self._calls.engine(role).capabilities
        reply = self._asking.reply_to("reply_label", labels=", ".join(labels))
        if "schema" in capabilities and "labels" not in capabilities:
            reply = self._asking.reply_to(
                "reply_json", shape=f'{{"verdict": "{" | ".join(labels)}"}}'
            )
        messages = self._to_judge(prompt, values, after, role, reply)
        draft = draft_of(after, index)
        if "labels" in capabilities:
            call = self._label_call(prompt, labels, role, messages, draft)
            return await self._judge_by_labels(call)
        is_held = "schema" in capabilities
        how: How = "schema" if is_held else "text"
        parse = parse_label_object if is_held else parse_label
        call = self._verdict_call(
            prompt, role, messages, index, draft, temperature, max_tokens, WORDS
        )
        if is_held:
            call = replace(call, schema=json.dumps(label_schema(labels), sort_keys=True))
        _, verdict = await self._read_strictly(call, reply, lambda text: parse(text, labels))
        self._saw(role, prompt, verdict=verdict, how=how)
        return Judgement(verdict=verdict, how=how)

    async def critique(
        self,
        prompt: str,
        shape: type[M],
        *,
        after: After = None,
        role: Role = "critic",
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **values: Value,
    ) -> tuple[Completion, M]:
        reply = self._asking.reply_to("reply_json", shape=example_of(shape))
        messages = self._to_judge(prompt, values, after, role, reply)
        draft = draft_of(after, index)
        call = self._verdict_call(prompt, role, messages, index, draft, temperature, max_tokens)
        is_held = "schema" in self._calls.engine(role).capabilities
        if is_held:
            # Not sorted: engines have the fields written in the schema's order, reasons before the verdict.
            call = replace(call, schema=json.dumps(shape.model_json_schema()))
        completion, found = await self._read_strictly(
            call, reply, lambda text: parse_reply(text, shape)
        )
        said = found.model_dump()
        how: How = "schema" if is_held else "text"
        self._saw(role, prompt, verdict=_word(said.get("verdict")), how=how, reply=said)
        return completion, found

    async def prefer(
        self, a: Candidate, b: Candidate, *, prompt: str = "prefer", role: Role = "judge"
    ) -> Preference:
        empty_a, empty_b = (quoting.degenerate(each.text) for each in (a, b))
        if empty_a or empty_b:
            winner: Literal["a", "b"] | None = (
                None if empty_a and empty_b else "b" if empty_a else "a"
            )
            preference = Preference(winner=winner)
        else:
            preference = await self._compare(a, b, prompt, role)
        self._saw(role, prompt, verdict=preference.winner or "tie")
        return preference

    async def _compare(self, a: Candidate, b: Candidate, prompt: str, role: Role) -> Preference:
        found: dict[int, Judgement] = {}
        conclude = self.profile("actor").conclusion

        async def show(order: int, first: Candidate, second: Candidate) -> None:
            found[order] = await self.judge(
                prompt,
                ("A", "B"),
                role=role,
                index=order,
                question=self._asking.question,
                candidate_a=conclude(first.text),
                candidate_b=conclude(second.text),
            )

        async with task_group() as group:
            group.start_soon(show, 0, a, b)
            group.start_soon(show, 1, b, a)
        return preference_of(found[0], found[1])

    # -- inside -------------------------------------------------------------------------------------

    def _to_judge(
        self, prompt: str, values: Mapping[str, Value], after: After, role: Role, reply: str
    ) -> tuple[Message, ...]:
        """The conversation that ends with the prompt and how to reply. Raises DegenerateCandidate."""
        shown = [*_judged(values)]
        if after is not None and not isinstance(after, str):
            after = self._shown(after)
            shown.append(after.text)
        for text in shown:
            if why := quoting.degenerate(text):
                raise DegenerateCandidate(f"there is nothing for the {role} to judge: {why}")
        return self._asking.conversation(prompt, values, after, reply=reply)

    def _shown(self, draft: Completion | Draft) -> Completion:
        """A draft as it is judged: its conclusion, without a token that could end its turn."""
        completion = draft if isinstance(draft, Completion) else draft.completion
        conclusion = self.profile(completion.role).conclusion(completion.text)
        return replace(completion, text=quoting.disarm(conclusion))

    async def _judge_by_labels(self, call: Call) -> Judgement:
        try:
            read = await self._calls.read(call)
        except UnusableCompletion as error:
            self._saw(call.role, call.purpose, how="labels", error=str(error))
            raise VerdictUnreadable(str(error)) from error
        verdict = max(call.labels, key=read.probabilities.__getitem__)
        self._saw(call.role, call.purpose, verdict=verdict, how="labels", labels=read)
        return Judgement(
            verdict=verdict, how="labels", probabilities=read.probabilities, mass=read.mass
        )

    async def _read(self, call: Call) -> LabelRead:
        read = await self._calls.read(call)
        self._saw(call.role, call.purpose, how="labels", labels=read)
        return read

    def _label_call(
        self,
        prompt: str,
        labels: Sequence[str],
        role: Role,
        messages: tuple[Message, ...],
        draft: int = 0,
    ) -> Call:
        call = self._asking.call(prompt, role, messages, draft=draft, temperature=0, max_tokens=1)
        return replace(call, labels=tuple(labels), thinking=False)

    def _verdict_call(
        self,
        prompt: str,
        role: Role,
        messages: tuple[Message, ...],
        index: int,
        draft: int,
        temperature: float | None,
        max_tokens: int | None,
        enough: int | None = None,
    ) -> Call:
        """A call for a verdict in words; `enough` tokens are, for a model that does not think first."""
        profile = self.profile(role)
        if temperature is None:
            temperature = self._asking.temperature_of(role)
        drawn = profile.judge_temperature(temperature)
        if temperature is not None and drawn != temperature:
            self.note(f"{role} temperature", f"{drawn}, not {temperature}: the model thinks")
        if max_tokens is None and not profile.is_thinking:
            max_tokens = enough
        call = self._asking.call(
            prompt,
            role,
            messages,
            index=index,
            draft=draft,
            temperature=drawn,
            max_tokens=max_tokens,
            is_verdict=True,
        )
        return self._unread(call)

    async def _read_strictly(
        self, call: Call, reply: str, parse: Callable[[str], X]
    ) -> tuple[Completion, X]:
        """The reply and what it says; one that cannot be read is asked for once more. Raises VerdictUnreadable."""
        conclude = self.profile(call.role).conclusion
        asked = call
        for is_last in (False, True):
            found: list[Completion] = []
            try:
                await self._calls.perform(asked, found.append)
                parsed = parse(conclude(found[0].text))
            except (UnusableCompletion, VerdictUnreadable) as error:
                if is_last:
                    self._saw(call.role, call.purpose, error=str(error))
                    raise VerdictUnreadable(f"the {call.role}'s reply: {error}") from error
                asked = self._again(call, found, reply)
            else:
                return replace(found[0], messages=call.messages), parsed
        raise AssertionError("a loop of two")  # pragma: no cover

    def _again(self, call: Call, found: Sequence[Completion], reply: str) -> Call:
        """The call once more, after what was replied and that it cannot be read."""
        if not found:
            return call
        turns = (
            Message(role="assistant", content=quoting.disarm(found[0].text)),
            Message(role="user", content=self._asking.reply_to("reply_again", reply=reply)),
        )
        return replace(call, messages=(*call.messages, *turns))

    def _saw(self, role: Role, purpose: str, **what: Any) -> None:
        self.trace.emit(VerdictSeen(at=self.trace.elapsed, role=role, purpose=purpose, **what))


def _judged(values: Mapping[str, Value]) -> list[str]:
    texts: list[str] = []
    for name, value in values.items():
        if quoting.is_judged(name):
            texts += [value] if isinstance(value, str) else value
    return texts


def _check_labels(labels: Sequence[str]) -> None:
    """Raise ValueError for labels that no engine tells apart; one that knows its tokens refuses others as well."""
    plain = [label.strip().casefold() for label in labels]
    if len(labels) < 2 or len(set(plain)) < len(labels) or "" in plain:
        raise ValueError(f"a verdict is one of at least two different labels, not {list(labels)}")
    for (one, first), (other, second) in permutations(zip(labels, plain, strict=True), 2):
        if second.startswith(first):
            raise ValueError(
                f"the labels {one!r} and {other!r} begin alike: no first token tells them apart"
            )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None
