"""Scripted replies of the byte server, in four dialects, with a record of the bytes sent.

The dialect "silent" never reports usage, "final" reports it at the end of a reply, "counting" with every delta, and "vllm"
also returns token ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

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

Place = Literal["last", "finish", "beside a choice", "no choices", "null choices"]
Shape = Literal["whole", "completion", "prompt", "nulls", "empty", "texts"]
PLACES: tuple[Place, ...] = get_args(Place)
SHAPES: tuple[Shape, ...] = get_args(Shape)

DIALECTS: tuple[Dialect, ...] = ("silent", "final", "counting", "vllm")
RENDERED = (1, 2, 3, 4, 5)
"""Token ids of every rendered conversation."""
FIRST_ID = 1000
"""First id of the tokens that the server generates."""


@dataclass(frozen=True)
class Text:
    """A delta of an unfinished completion, selected by `choice`, with an optional answer."""

    choice: int = 0
    tokens: int = 1
    answer: int | None = None
    is_reasoning: bool = False


@dataclass(frozen=True)
class Finish:
    """The end of an unfinished completion, with or without text."""

    choice: int = 0
    reason: str = "stop"
    tokens: int = 0


@dataclass(frozen=True)
class Noise:
    """An event without content."""

    kind: Literal["comment", "role", "no choices", "null usage"]


@dataclass(frozen=True)
class Break:
    """An event or end that makes the rest of the reply unreadable."""

    trouble: Trouble


@dataclass(frozen=True)
class Stall:
    """A stall until the client disconnects or no other reply is in progress."""


Step: TypeAlias = Text | Finish | Noise | Break | Stall


@dataclass(frozen=True)
class Script:
    """Reply to one request.

    Attributes:
        steps: Events to send.
        opening: Start of the reply: a stream, an error status, or a connection failure.
        write_sizes: Sizes in bytes of the writes, repeated in a cycle; empty to write event by event.
        at_once: Buffer the whole reply before writing.
        is_chunked: Use chunked transfer encoding; otherwise closing the connection ends the reply.
        obeys: End completions at the request's token limit.
        running: Report usage with each delta, in dialects that do.
        final: Report usage at the end, in dialects that do.
        place: Chunk that has the usage at the end.
        shape: Counts that this usage contains.
        done: End the stream with [DONE].
        completes: Finish all open completions after the steps.
        late: Trouble after that, before the final usage.
    """

    steps: tuple[Step, ...] = ()
    opening: Opening = "stream"
    write_sizes: tuple[int, ...] = ()
    at_once: bool = False
    is_chunked: bool = True
    obeys: bool = True
    running: bool = True
    final: bool = True
    place: Place = "last"
    shape: Shape = "whole"
    done: bool = True
    completes: bool = True
    late: Trouble | None = None


DEFAULT_SCRIPT = Script()


@dataclass
class Choice:
    """The part of one completion that was sent."""

    text: str = ""
    tokens: int = 0
    reason: str | None = None


@dataclass
class Attempt:
    """The readable part of the reply to one request.

    Attributes:
        prefix: Text that the completion continues; None for a new completion.
        reported: Completion tokens of the last usage; None if none was sent.
        has_reported_prompt: The last usage was sent and contains the prompt tokens.
        counted: Completion tokens that the client could count from deltas.
        trouble: Reason why the reply ended early, if any.
        requested: Tokens that earlier requests had generated, or could still generate, when this one arrived.
        is_open: The server still generates tokens.
    """

    number: int
    dialect: Dialect
    body: Body
    script: Script
    prompt: int = len(RENDERED)
    prefix: str | None = None
    choices: list[Choice] = field(default_factory=list)
    reported: int | None = None
    has_reported_prompt: bool = False
    counted: int = 0
    trouble: Trouble | None = None
    requested: int = 0
    is_open: bool = False

    def __post_init__(self) -> None:
        self.choices = [Choice() for _ in range(self.body.get("n", 1))]

    @property
    def sent(self) -> int:
        """Number of completion tokens sent."""
        return sum(each.tokens for each in self.choices)

    @property
    def is_empty(self) -> bool:
        """True if nothing was sent that a client would charge."""
        has_content = any(each.tokens or each.reason for each in self.choices)
        return not has_content and self.reported is None and not self.has_reported_prompt

    @property
    def cap(self) -> int:
        """Maximum tokens of each completion."""
        return int(self.body["max_tokens"])

    @property
    def total_cap(self) -> int:
        """Maximum tokens of all completions."""
        return self.cap * len(self.choices)

    @property
    def has_usage_at_the_end(self) -> bool:
        """True if the reply ends with usage that contains the completion tokens."""
        has_tokens = self.script.shape in ("whole", "completion")
        return self.script.final and has_tokens and self.dialect != "silent"


class Chunks:
    """Events of a reply, recorded in its attempt as they are generated. `texts` maps token ids to text."""

    def __init__(self, attempt: Attempt, texts: dict[int, str]) -> None:
        self._attempt, self._texts = attempt, texts
        self._is_chat = "messages" in attempt.body
        self._is_first = True
        self._deltas = 0
        self._has_finish_usage = False

    def of(self, step: Text | Finish | Noise) -> Iterator[bytes]:
        """Yield the event of a step; nothing if no completion is open."""
        if isinstance(step, Noise):
            yield self._noise(step)
        elif isinstance(step, Text):
            if (index := self._pick(step.choice, is_open=True)) is not None:
                yield self._text_event(index, step)
        elif (index := self._pick(step.choice, is_open=True)) is not None:
            room = self._room(index)
            reason = step.reason if room is None or step.tokens <= room else "length"
            yield self._delta(
                index, self._unique_text(index), self._clipped(index, step.tokens), reason
            )

    def completing(self) -> Iterator[bytes]:
        """Yield events that finish the open completions."""
        attempt = self._attempt
        while attempt.script.completes and (index := self._pick(0, is_open=True)) is not None:
            if not attempt.choices[index].text:
                yield self._text_event(index, Text(answer=42))
            if attempt.choices[index].reason is None:
                yield self._delta(index, "", 0, "stop")

    def close(self) -> None:
        """Record that the server generates no more tokens."""
        self._attempt.is_open = False

    def closing(self) -> Iterator[bytes]:
        """Yield the final usage and the end of the stream."""
        self.close()
        attempt = self._attempt
        if attempt.script.final and attempt.dialect != "silent" and not self._has_finish_usage:
            if attempt.has_usage_at_the_end:
                attempt.reported = attempt.sent
            attempt.has_reported_prompt = attempt.script.shape in ("whole", "prompt")
            yield _event(self._final_chunk())
        if attempt.script.done:
            yield b"data: [DONE]\n\n"

    def _final_chunk(self) -> Body:
        script, usage = self._attempt.script, self._shaped(self._usage(self._attempt.sent))
        if script.place == "beside a choice" and self._pick(0, is_open=True) is None:
            return self._chunk(0, "", (), None) | {"usage": usage}
        if script.place == "null choices":
            return {"choices": None, "usage": usage}
        return {"usage": usage} | ({} if script.place == "no choices" else {"choices": []})

    def _shaped(self, usage: Body) -> Body:
        """Return the counts of the script's shape."""
        shape = self._attempt.script.shape
        if shape in ("completion", "prompt"):
            return {name: count for name, count in usage.items() if name.startswith(shape)}
        if shape == "texts":
            return {name: str(count) for name, count in usage.items()}
        return {"whole": usage, "nulls": dict.fromkeys(usage), "empty": {}}[shape]

    def broken(self, trouble: Trouble) -> bytes | None:
        """Return an unreadable event, which is not recorded; None if there is no completion for it."""
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
            is_known = len(self._attempt.choices) == 1
            return None if is_known else _event({"choices": [{"delta": {"content": "x"}}]})
        status = int(trouble.removeprefix("error "))
        return _event({"error": {"message": "no more", "code": status}})

    def _text_event(self, index: int, step: Text) -> bytes:
        text = self._unique_text(index)
        if step.answer is not None:
            text += f"\\boxed{{{step.answer}}} "
        room = self._room(index)
        reason = "length" if room is not None and step.tokens >= room else None
        tokens = self._clipped(index, step.tokens)
        if step.is_reasoning and self._is_chat:
            return self._delta(index, "", tokens, reason, reasoning=text)
        return self._delta(index, text, tokens, reason)

    def _unique_text(self, index: int) -> str:
        """Return a text that no other delta of any attempt contains."""
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
        is_over = all(each.reason is not None for each in attempt.choices)
        is_wanted = attempt.dialect == "final" and attempt.script.final
        if is_wanted and attempt.script.place == "finish" and is_over:
            self._has_finish_usage = True
            chunk["usage"] = self._shaped(self._usage(attempt.sent))
            if attempt.has_usage_at_the_end:
                attempt.reported = attempt.sent
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
        candidates = [
            index
            for index, each in enumerate(self._attempt.choices)
            if (each.reason is None) is is_open
        ]
        return candidates[choice % len(candidates)] if candidates else None

    def _room(self, index: int) -> int | None:
        """Return the tokens left of the request's limit; None if the script ignores it."""
        if not self._attempt.script.obeys:
            return None
        return self._attempt.cap - self._attempt.choices[index].tokens

    def _clipped(self, index: int, tokens: int) -> int:
        room = self._room(index)
        return tokens if room is None else min(tokens, room)


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
