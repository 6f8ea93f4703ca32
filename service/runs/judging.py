"""The verbs that have a model judge: labels, verdicts, critiques, comparisons, rewards.

How a verdict is read depends on the engine, what a strategy gets does not: label probabilities where the engine gives
them, a reply held to a schema where it can, else text that is parsed strictly and asked for once more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from secondpass.service.common.concurrency import all_at_once
from secondpass.service.common.events import VerdictSeen
from secondpass.service.runs.base import Verbs
from secondpass.service.runs.call_builder import draft_of
from secondpass.strategies import prompts
from secondpass.strategies.api import quoting
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import DegenerateCandidate, VerdictUnreadable
from secondpass.strategies.api.judgements import How, Judgement, Preference, preference_of
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.run import AS_ASKED, After, StepStream
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

WORDS = 64
"""Completion tokens of a verdict without reasons."""


class JudgingVerbs(Verbs):
    """See `strategies.api.run.Run`."""

    async def score(
        self,
        subject: Completion | StepStream | Candidate | str,
        *,
        messages: Sequence[Message] | None = None,
    ) -> float:
        if isinstance(subject, str):
            asked, text, index = self.spec.messages, subject, 0
        elif isinstance(subject, Candidate):
            asked, text, index = self.spec.messages, subject.text, subject.index
        else:
            draft = subject if isinstance(subject, Completion) else subject.completion
            asked, text, index = draft.messages, draft.text, draft.index
        turn = Message(role="assistant", content=text)
        conversation = (*(asked if messages is None else messages), turn)
        call = self._builder.call("reward", "reward", conversation, session_of=index)
        reward = await self._calls.reward(replace(call, reward=True, sampling=Sampling()))
        self._saw(call.role, call.purpose, reward=reward)
        return reward

    async def classify(
        self,
        prompt: str,
        labels: Sequence[str],
        *,
        after: After = None,
        role: Role = "judge",
        index: int = 0,
        draw: Draw = AS_ASKED,
        **values: Value,
    ) -> Judgement:
        _check_labels(labels)
        how = self._how(role, prompt)
        reply = self._reply_to_classify(prompt, labels, how)
        messages = self._to_judge(prompt, values, after, role, reply)
        session_of = draft_of(after, index)
        if how == "labels":
            return await self._read_labels(
                self._label_call(prompt, labels, role, messages, session_of)
            )
        parse = parse_label_object if how == "schema" else parse_label
        call = self._verdict_call(prompt, role, messages, index, session_of, draw, WORDS)
        if how == "schema":
            call = replace(call, schema=json.dumps(label_schema(labels), sort_keys=True))
        _, verdict = await self._read_strictly(call, reply, how, lambda text: parse(text, labels))
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
        draw: Draw = AS_ASKED,
        **values: Value,
    ) -> tuple[Completion, M]:
        reply = self._builder.reply_to("reply_json", shape=example_of(shape))
        messages = self._to_judge(prompt, values, after, role, reply)
        call = self._verdict_call(prompt, role, messages, index, draft_of(after, index), draw)
        how: How = "text"
        if "schema" in self._calls.engine(role).capabilities:
            how = "schema"
            # Not sorted: engines have the fields written in the schema's order, reasons before the verdict.
            call = replace(call, schema=json.dumps(shape.model_json_schema()))
        completion, found = await self._read_strictly(
            call, reply, how, lambda text: parse_reply(text, shape)
        )
        fields = found.model_dump()
        verdict = fields.get("verdict")
        self._saw(
            role,
            prompt,
            verdict=verdict if isinstance(verdict, str) else None,
            how=how,
            reply=fields,
        )
        return completion, found

    async def compare(
        self,
        a: Candidate,
        b: Candidate,
        *,
        prompt: str = "prefer",
        role: Role = "judge",
        index: int = 0,
        draw: Draw = AS_ASKED,
    ) -> Preference:
        empty_a, empty_b = (quoting.degenerate(each.text) for each in (a, b))
        if empty_a or empty_b:
            winner: Literal["a", "b"] | None = (
                None if empty_a and empty_b else "b" if empty_a else "a"
            )
            preference = Preference(winner=winner)
        else:
            preference = await self._in_both_orders(a, b, prompt, role, index, draw)
        self._saw(role, prompt, verdict=preference.winner or "tie")
        return preference

    async def _in_both_orders(
        self, a: Candidate, b: Candidate, prompt: str, role: Role, index: int, draw: Draw
    ) -> Preference:
        found: dict[int, Judgement] = {}
        conclude = self.model("actor").profile.conclusion

        async def show(order: int, first: Candidate, second: Candidate) -> None:
            found[order] = await self.classify(
                prompt,
                ("A", "B"),
                role=role,
                index=2 * index + order,
                draw=draw,
                question=self._builder.question,
                candidate_a=conclude(first.text),
                candidate_b=conclude(second.text),
            )

        await all_at_once(partial(show, 0, a, b), partial(show, 1, b, a))
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
        return self._builder.conversation(prompt, values, after, reply=reply)

    def _shown(self, draft: Completion | StepStream) -> Completion:
        """A draft as it is judged: its conclusion, without a token that could end its turn."""
        completion = draft if isinstance(draft, Completion) else draft.completion
        conclusion = self.model(completion.role).profile.conclusion(completion.text)
        return completion.with_text(quoting.disarm(conclusion))

    def _how(self, role: Role, prompt: str) -> How:
        """How a label is read: by the best means of the role's engine that the prompt's own words leave."""
        capabilities = self._calls.engine(role).capabilities
        if "labels" in capabilities:
            return "labels"
        is_own = prompts.says_how_to_reply(prompt)
        return "schema" if "schema" in capabilities and not is_own else "text"

    def _reply_to_classify(self, prompt: str, labels: Sequence[str], how: How) -> str:
        if prompts.says_how_to_reply(prompt):
            return ""
        if how == "schema":
            shape = f'{{"verdict": "{" | ".join(labels)}"}}'
            return self._builder.reply_to("reply_json", shape=shape)
        return self._builder.reply_to("reply_label", labels=", ".join(labels))

    async def _read_labels(self, call: Call) -> Judgement:
        try:
            read = await self._calls.read(call)
        except VerdictUnreadable as error:
            self._unreadable(call, error, "labels")
            raise
        verdict = max(call.labels, key=read.probabilities.__getitem__)
        self._saw(call.role, call.purpose, verdict=verdict, how="labels", labels=read)
        return Judgement(
            verdict=verdict, how="labels", probabilities=read.probabilities, mass=read.mass
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
        enough: int | None = None,
    ) -> Call:
        """A call for a written verdict; `enough` tokens are, for a model that does not reason first."""
        profile = self.model(role).profile
        wanted = draw.temperature
        if wanted is None:
            wanted = self._builder.temperature_of(role)
        drawn = profile.judge_temperature(wanted)
        if wanted is not None and drawn != wanted:
            self.note(f"{role} temperature", f"{drawn}, not {wanted}: the model reasons")
        cap = draw.max_tokens
        if cap is None and not profile.is_thinking:
            cap = enough
        call = self._builder.call(
            prompt,
            role,
            messages,
            index=index,
            session_of=session_of,
            draw=replace(draw, temperature=drawn, max_tokens=cap),
            is_verdict=True,
        )
        return self._gathered(call)

    async def _read_strictly(
        self, call: Call, reply: str, how: How, parse: Callable[[str], X]
    ) -> tuple[Completion, X]:
        """The reply and what was parsed from it; an unreadable one is asked for once more. Raises VerdictUnreadable."""
        conclude = self.model(call.role).profile.conclusion
        asked = call
        for is_last in (False, True):
            found: list[Completion] = []
            try:
                await self._calls.perform(asked, found.append, may_be_empty=True)
                parsed = parse(conclude(found[0].text))
            except VerdictUnreadable as error:
                if is_last:
                    unreadable = VerdictUnreadable(
                        f"the {call.role}'s reply: {error}", role=call.role
                    )
                    self._unreadable(call, unreadable, how)
                    raise unreadable from error
                asked = self._again(call, found[0], reply)
            else:
                return replace(found[0], messages=call.messages), parsed
        raise AssertionError("a loop of two")  # pragma: no cover

    def _unreadable(self, call: Call, error: VerdictUnreadable, how: How) -> None:
        self.count_failure(error)
        self._saw(call.role, call.purpose, how=how, error=str(error))

    def _again(self, call: Call, unread: Completion, reply: str) -> Call:
        """The call once more, after what was replied, if anything, and that it cannot be read."""
        if not unread.text.strip():
            return call
        turns = (
            Message(role="assistant", content=quoting.disarm(unread.text)),
            Message(role="user", content=self._builder.reply_to("reply_again", reply=reply)),
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
    """Raise TypeError for a text, ValueError for labels that no engine can tell apart.

    An engine that knows its tokens refuses others as well.
    """
    if isinstance(labels, str):
        raise TypeError(f"labels: several texts, not the text {labels!r}")
    plain = [label.strip().casefold() for label in labels]
    if len(labels) < 2 or len(set(plain)) < len(labels) or "" in plain:
        raise ValueError(f"labels: at least two different ones, none empty, not {list(labels)}")
    for (one, first), (other, second) in permutations(zip(labels, plain, strict=True), 2):
        if second.startswith(first):
            raise ValueError(
                f"the labels {one!r} and {other!r} begin alike: no first token tells them apart"
            )
