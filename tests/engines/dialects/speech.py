"""The replies of one dialect: its chunks, its framing and what it accepts in requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

TEXT = "Six times seven. The answer is \\boxed{42}."
REASONING = "Hm, perhaps \\boxed{7} first. "
PROMPT_TOKENS = 10
CACHED_TOKENS = 4


def words_of(text: str) -> list[str]:
    """Return the tokens of a text: its words, each with the space after it."""
    return text.replace(" ", " \0").split("\0")


@dataclass
class Ask:
    """One request, and the tokens that the reply to it used.

    Attributes:
        body: The JSON of the request.
        completion: Completion tokens generated so far.
    """

    body: Json
    completion: int = 0

    @property
    def n(self) -> int:
        """Number of completions requested."""
        return int(self.body.get("n") or 1)

    @property
    def limit(self) -> int:
        """Token limit of each completion."""
        return int(self.body.get("max_tokens") or self.body.get("max_completion_tokens") or 10**6)

    @property
    def is_probe(self) -> bool:
        """True for the probe: other calls allow far more tokens."""
        return self.limit < 10

    @property
    def wants_usage(self) -> bool:
        """True if the request asks for usage at the end of the stream."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    def words(self) -> list[str]:
        """Return the tokens of one completion."""
        return words_of(TEXT)[: self.limit]

    def reason(self) -> str:
        """Return the finish reason of each completion."""
        return "length" if len(self.words()) == self.limit else "stop"

    def usage(self, completion: int | None = None) -> Json:
        """Return the usage object, with the completion tokens so far by default."""
        count = self.completion if completion is None else completion
        total = PROMPT_TOKENS + count
        return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": count, "total_tokens": total}


Chunks = Iterable[Any]
"""Chunks of a reply: JSON values, or bytes to write unchanged."""


def chunk(delta: Any, reason: str | None = None, index: int = 0, **more: Any) -> Json:
    """Return one chunk; None in `more` is kept."""
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return {"object": "chat.completion.chunk", "choices": [choice]} | more


def role(_: Ask, index: int) -> Chunks:
    """Yield the first chunk of a completion, as OpenAI does."""
    yield chunk({"role": "assistant", "content": ""}, index=index)


def word(_: Ask, index: int, text: str, _count: int) -> Chunks:
    """Yield a chunk with one word."""
    yield chunk({"content": text}, index=index)


def stop(ask: Ask, index: int) -> Chunks:
    """Yield the last chunk of a completion."""
    yield chunk({}, ask.reason(), index)


def final_usage(ask: Ask) -> Chunks:
    """Yield the usage in a chunk without choices, if it was requested."""
    if ask.wants_usage:
        yield {"object": "chat.completion.chunk", "choices": [], "usage": ask.usage()}


def nothing(*_: Any) -> Chunks:
    """Yield nothing."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The parts of a streamed reply, in order. By default it is OpenAI's.

    Attributes:
        opening: Chunks before the completions.
        first: First chunks of a completion.
        word: Chunks of one word, with the number of words of this completion so far.
        last: Last chunks of a completion.
        closing: Chunks after the completions.
        newline: End of a line.
        prefix: Start of each event.
        done: Bytes at the end.
        media_type: Content type of the reply.
        is_compressed: Compress the reply with gzip, unasked.
    """

    opening: Callable[[Ask], Chunks] = nothing
    first: Callable[[Ask, int], Chunks] = role
    word: Callable[[Ask, int, str, int], Chunks] = word
    last: Callable[[Ask, int], Chunks] = stop
    closing: Callable[[Ask], Chunks] = final_usage
    newline: str = "\n"
    prefix: str = "data: "
    done: bytes = b"data: [DONE]\n\n"
    media_type: str = "text/event-stream"
    is_compressed: bool = False

    def events(self, ask: Ask) -> Iterator[bytes]:
        """Yield the bytes of each event of the reply."""
        for each in self._chunks(ask):
            yield each if isinstance(each, bytes) else self.event(each)
        yield self.done.replace(b"\n", self.newline.encode())

    def event(self, value: Any) -> bytes:
        """Return one event."""
        return f"{self.prefix}{json.dumps(value, ensure_ascii=False)}{self.newline * 2}".encode()

    def _chunks(self, ask: Ask) -> Iterator[Any]:
        yield from self.opening(ask)
        for index in range(ask.n):
            yield from self.first(ask, index)
        for index in range(ask.n):
            for count, text in enumerate(ask.words(), 1):
                ask.completion += 1
                yield from self.word(ask, index, text, count)
        for index in range(ask.n):
            yield from self.last(ask, index)
        yield from self.closing(ask)


Refusal = tuple[int, Mapping[str, Any] | str]
"""An error reply: its status and its body."""


@dataclass(frozen=True, kw_only=True)
class Speech:
    """A dialect. By default it is OpenAI's.

    Attributes:
        name: Name of the dialect and of its model.
        servers: Servers that speak it.
        what: Description, to follow the name of the servers in a table.
        usage: The usage that the service reports: counted exactly, or with estimates.
        refused: Text in the error for every call; None if calls succeed.
        vote_refused: Text in the error of a vote; None if votes succeed.
        answer: The answer of a call.
        stream: The streamed reply.
        whole: The reply to a request that is not streamed; it replaces the streamed one if `ignores_stream`.
        refuse: Return an error for a request, or None.
        models: The reply of /models; None for a status of 404.
        n_requests: Requests for a vote with 3 drafts that asks for them in one request.
    """

    name: str
    servers: str
    what: str
    usage: str = "exact"
    refused: str | None = None
    vote_refused: str | None = None
    answer: str | None = "42"
    stream: Stream = field(default_factory=Stream)
    ignores_stream: bool = False
    refuse: Callable[[Ask], Refusal | None] = lambda _: None
    models: Callable[[str], Any] = lambda name: {"data": [{"id": name, "owned_by": "mock"}]}
    n_requests: int = 1


def whole_reply(ask: Ask) -> Json:
    """Return the reply to a request that is not streamed."""
    choices = []
    for index in range(ask.n):
        ask.completion += len(ask.words())
        message = {"role": "assistant", "content": "".join(ask.words())}
        choices.append({"index": index, "message": message, "finish_reason": ask.reason()})
    return {"object": "chat.completion", "choices": choices, "usage": ask.usage()}
