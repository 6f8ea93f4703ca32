"""What a scripted server does with one request, and what it sent: the events of a reply in four dialects.

"silent" never reports a usage, "final" does so at the end of a reply, "counting" with every delta, and "vllm" returns
token ids besides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Body: TypeAlias = dict[str, Any]
Dialect = Literal["silent", "final", "counting", "vllm"]
Opening = Literal["stream", "drop", "no stream", "garbled head", 400, 429, 500, 503]
Trouble = Literal[
    "end",
    "inside an event",
    "error 400",
    "error 429",
    "error 500",
    "garbage reason",
    "failed reason",
    "index out of range",
    "delta after its end",
    "no JSON",
    "no index",
]

DIALECTS: tuple[Dialect, ...] = ("silent", "final", "counting", "vllm")
RENDERED = (1, 2, 3, 4, 5)
"""The token ids of any conversation."""
FIRST_ID = 1000
"""Ids from here on are those of tokens that the server generated."""


@dataclass(frozen=True)
class Say:
    """A delta of an open completion (their number modulo `choice`); an answer is appended to its text."""

    choice: int = 0
    tokens: int = 1
    answer: int | None = None
    is_reasoning: bool = False


@dataclass(frozen=True)
class Finish:
    """The end of an open completion, with or without a last delta."""

    choice: int = 0
    reason: str = "stop"
    tokens: int = 0


@dataclass(frozen=True)
class Noise:
    """An event that means nothing."""

    kind: Literal["comment", "role", "no choices", "null usage"]


@dataclass(frozen=True)
class Break:
    """What no client can read past."""

    trouble: Trouble


@dataclass(frozen=True)
class Hold:
    """Silence until the client goes, or no other request is being replied to."""


Step: TypeAlias = Say | Finish | Noise | Break | Hold


@dataclass(frozen=True)
class Script:
    """How one request is replied to. After the steps all open completions are finished, if it `completes`.

    `late` is what happens then, before the final usage.
    `pieces` are the sizes in bytes of what is written at once (none: event by event; `at_once`: everything), and
    `is_chunked` the framing of HTTP/1.1: without it only the closing of the connection ends the reply. A server that
    `obeys` ends a completion at the limit of the request. `running` and `final` say whether the usage is reported where
    the dialect does so, `done` whether the stream ends in [DONE].
    """

    steps: tuple[Step, ...] = ()
    opening: Opening = "stream"
    pieces: tuple[int, ...] = ()
    at_once: bool = False
    is_chunked: bool = True
    obeys: bool = True
    running: bool = True
    final: bool = True
    done: bool = True
    completes: bool = True
    late: Trouble | None = None


PLAIN = Script()


@dataclass
class Choice:
    """What was sent of one completion."""

    text: str = ""
    tokens: int = 0
    reason: str | None = None


@dataclass
class Attempt:
    """What was sent in reply to one request: all of it that a client could read.

    `reported` are the completion tokens of the last usage, `counted` those that the client could count from deltas.
    `prefix` is the text that the completion continues, None where it begins. `broke` is what ended the reply early.
    """

    number: int
    dialect: Dialect
    body: Body
    script: Script
    prompt: int = len(RENDERED)
    prefix: str | None = None
    choices: list[Choice] = field(default_factory=list)
    reported: int | None = None
    counted: int = 0
    broke: Trouble | None = None

    def __post_init__(self) -> None:
        self.choices = [Choice() for _ in range(self.body.get("n", 1))]

    @property
    def sent(self) -> int:
        """Completion tokens that were sent."""
        return sum(each.tokens for each in self.choices)

    @property
    def is_silent(self) -> bool:
        """Whether nothing was sent that a client would count."""
        is_begun = any(each.tokens or each.reason for each in self.choices)
        return not is_begun and self.reported is None

    @property
    def cap(self) -> int:
        """The most tokens that each completion may have."""
        return int(self.body["max_tokens"])


class Chunks:
    """The events of a reply, noted in its attempt as they are made. `texts` gets the text of each token id."""

    def __init__(self, attempt: Attempt, texts: dict[int, str]) -> None:
        self._attempt, self._texts = attempt, texts
        self._is_chat = "messages" in attempt.body
        self._is_first = True
        self._deltas = 0

    def of(self, step: Say | Finish | Noise) -> Iterator[bytes]:
        """The event of a step; none where no completion is open."""
        if isinstance(step, Noise):
            yield self._noise(step)
        elif isinstance(step, Say):
            if (index := self._pick(step.choice, is_open=True)) is not None:
                yield self._say(index, step)
        elif (index := self._pick(step.choice, is_open=True)) is not None:
            room = self._room(index)
            reason = step.reason if room is None or step.tokens <= room else "length"
            yield self._delta(index, self._text(index), self._fitting(index, step.tokens), reason)

    def completing(self) -> Iterator[bytes]:
        """What finishes the completions that are open."""
        attempt = self._attempt
        while attempt.script.completes and (index := self._pick(0, is_open=True)) is not None:
            if not attempt.choices[index].text:
                yield self._say(index, Say(answer=42))
            if attempt.choices[index].reason is None:
                yield self._delta(index, "", 0, "stop")

    def closing(self) -> Iterator[bytes]:
        """The final usage and the end of the stream."""
        attempt = self._attempt
        if attempt.script.final and attempt.dialect != "silent":
            attempt.reported = attempt.sent
            yield _event({"choices": [], "usage": self._usage(attempt.sent)})
        if attempt.script.done:
            yield b"data: [DONE]\n\n"

    def broken(self, trouble: Trouble) -> bytes | None:
        """An event that no client can read; None where there is no completion for it. None of it counts."""
        if trouble in ("garbage reason", "failed reason", "delta after its end"):
            index = self._pick(0, is_open=trouble != "delta after its end")
            reason = {"garbage reason": "banana", "failed reason": "error"}.get(trouble)
            return None if index is None else _event(self._chunk(index, "lost", (), reason))
        if trouble == "inside an event":
            return _event(self._chunk(0, "lost 🦊", (), None))[:-12]
        if trouble == "index out of range":
            return _event(self._chunk(len(self._attempt.choices), "lost", (), None))
        if trouble == "no JSON":
            return b"data: {oops\n\n"
        if trouble == "no index":
            return _event({"choices": [{"delta": {"content": "x"}}]})
        status = int(trouble.removeprefix("error "))
        return _event({"error": {"message": "no more", "code": status}})

    def _say(self, index: int, step: Say) -> bytes:
        text = self._text(index)
        if step.answer is not None:
            text += f"\\boxed{{{step.answer}}} "
        room = self._room(index)
        reason = "length" if room is not None and step.tokens >= room else None
        tokens = self._fitting(index, step.tokens)
        if step.is_reasoning and self._is_chat:
            return self._delta(index, "", tokens, reason, reasoning=text)
        return self._delta(index, text, tokens, reason)

    def _text(self, index: int) -> str:
        """A text that no other delta of any attempt has."""
        self._deltas += 1
        return f"⟨{self._attempt.number}.{index}.{self._deltas}⟩ é🦊 "

    def _delta(
        self, index: int, text: str, tokens: int, reason: str | None, *, reasoning: str = ""
    ) -> bytes:
        attempt, choice = self._attempt, self._attempt.choices[index]
        if not tokens:
            text = reasoning = ""
        choice.text += text
        choice.tokens += tokens
        choice.reason = reason
        ids = tuple(range(FIRST_ID + len(self._texts), FIRST_ID + len(self._texts) + tokens))
        for position, token in enumerate(ids):
            self._texts[token] = "" if position else text + reasoning
        chunk = self._chunk(index, text, ids, reason, reasoning)
        if attempt.dialect in ("counting", "vllm") and attempt.script.running:
            chunk["usage"] = self._usage(choice.tokens)
            attempt.reported = (attempt.reported or 0) + tokens
        if attempt.dialect == "vllm" or "usage" in chunk:
            attempt.counted += tokens
        return _event(chunk)

    def _chunk(
        self, index: int, text: str, ids: tuple[int, ...], reason: str | None, reasoning: str = ""
    ) -> Body:
        choice: Body = {"index": index, "finish_reason": reason}
        if self._is_chat:
            choice["delta"] = {"content": text or None, "reasoning": reasoning or None}
        else:
            choice["text"] = text
        chunk: Body = {"choices": [choice]}
        if self._attempt.dialect == "vllm" and ids:
            choice["token_ids"] = ids
        if self._attempt.dialect == "vllm" and self._is_chat and self._is_first:
            chunk["prompt_token_ids"] = RENDERED
        self._is_first = False
        return chunk

    def _noise(self, step: Noise) -> bytes:
        if step.kind == "comment":
            return b": still here\n\n"
        if step.kind == "no choices":
            return _event({"choices": []})
        if step.kind == "null usage":
            return _event({"choices": [], "usage": None})
        index = self._pick(0, is_open=True)
        role = {"index": index, "delta": {"role": "assistant", "content": ""}}
        return _event({"choices": [] if index is None else [role]})

    def _usage(self, completion: int) -> Body:
        return {"prompt_tokens": self._attempt.prompt, "completion_tokens": completion}

    def _pick(self, choice: int, *, is_open: bool) -> int | None:
        found = [
            index
            for index, each in enumerate(self._attempt.choices)
            if (each.reason is None) is is_open
        ]
        return found[choice % len(found)] if found else None

    def _room(self, index: int) -> int | None:
        """Tokens up to the limit of the request; None where it does not count."""
        if not self._attempt.script.obeys:
            return None
        return self._attempt.cap - self._attempt.choices[index].tokens

    def _fitting(self, index: int, tokens: int) -> int:
        room = self._room(index)
        return tokens if room is None else min(tokens, room)


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
