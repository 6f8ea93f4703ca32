"""Dialects that differ in the requests that they accept, in their models and in their errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.engines.dialects.server import Abort
from tests.engines.dialects.speech import Ask, Chunks, Refusal, Speech, Stream, chunk, nothing

_KNOWN = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "seed",
    "stop",
}


def _error(message: str, **more: Any) -> Mapping[str, Any]:
    return {"error": {"message": message} | more}


def _rejects(field: str) -> Callable[[Ask], Refusal | None]:
    """Return the error of a server that does not know a field."""
    error = 400, _error(f"Unsupported parameter: '{field}'", param=field)
    return lambda ask: error if field in ask.body else None


def _only_known(ask: Ask) -> Refusal | None:
    unknown = sorted(ask.body.keys() - _KNOWN)
    return (400, {"object": "error", "message": f"extra inputs: {unknown}"}) if unknown else None


def _one_choice(ask: Ask) -> Refusal | None:
    return (400, _error("Only one completion choice is allowed")) if ask.n > 1 else None


def _fails_on_unknown(ask: Ask) -> Refusal | None:
    return (500, _error("internal error")) if ask.body.keys() - _KNOWN else None


class _One(Ask):
    """A request for one completion, whatever its `n` is."""

    @property
    def n(self) -> int:
        return 1


def _fails(*events: bytes) -> Stream:
    """Return a stream with `events` after two words, except in replies to probes."""

    def word(ask: Ask, index: int, text: str, position: int) -> Chunks:
        if position == 3 and not ask.is_probe:
            yield from events
            raise Abort
        yield chunk({"content": text}, index=index)

    return Stream(word=word)


def _replies(status: int, body: Mapping[str, Any] | str) -> Callable[[Ask], Refusal | None]:
    return lambda ask: None if ask.is_probe else (status, body)


class _Busy:
    """A server that answers each second call with 429."""

    def __init__(self) -> None:
        self._is_busy = False

    def __call__(self, ask: Ask) -> Refusal | None:
        self._is_busy = not ask.is_probe and not self._is_busy
        return (429, _error("Rate limit reached")) if self._is_busy else None


def _ignoring_n() -> Stream:
    stream = Stream()

    class Single(Stream):
        def events(self, ask: Ask) -> Any:
            one = _One(ask.body)
            yield from stream.events(one)
            ask.completion = one.completion

    return Single()


REQUESTS = (
    Speech(
        name="whole_reply",
        servers="some gateways",
        what="a whole JSON reply although a stream was requested",
        ignores_stream=True,
    ),
    Speech(
        name="only_max_completion_tokens",
        servers="OpenAI",
        what="`max_completion_tokens` in place of `max_tokens`",
        refuse=_rejects("max_tokens"),
    ),
    Speech(
        name="known_fields_only",
        servers="Mistral, TGI",
        what="rejects unknown fields",
        refuse=_only_known,
    ),
    Speech(
        name="fails_on_unknown_fields",
        servers="some gateways",
        what="status 500 for unknown fields",
        refuse=_fails_on_unknown,
    ),
    Speech(
        name="no_temperature",
        servers="OpenAI's reasoning models",
        what="rejects `temperature`, which strategies set",
        refuse=_rejects("temperature"),
        vote_refused="Unsupported parameter: 'temperature'",
    ),
    Speech(name="no_seed", servers="several", what="rejects `seed`", refuse=_rejects("seed")),
    Speech(
        name="rejects_n",
        servers="llama.cpp, Mistral, Groq",
        what="rejects `n` above 1",
        n_requests=3,
        refuse=_one_choice,
    ),
    Speech(
        name="ignores_n", servers="Ollama", what="ignores `n`", n_requests=3, stream=_ignoring_n()
    ),
    Speech(
        name="no_models_route",
        servers="Perplexity",
        what="no `/models`: the configured name is used",
        models=lambda _: None,
    ),
    Speech(
        name="models_list",
        servers="Together",
        what="a list of models without an object around it",
        models=lambda name: [{"id": name}],
    ),
    Speech(
        name="models_names",
        servers="some gateways",
        what="names of models in `models`",
        models=lambda name: {"models": [name]},
    ),
    Speech(
        name="busy",
        servers="several",
        what="status 429 for each second call, which is retried",
        refuse=_Busy(),
    ),
)

ERRORS = (
    Speech(
        name="error_page",
        servers="nginx",
        what="status 502 with a web page",
        refused="502 Bad Gateway",
        refuse=_replies(502, "<html>502 Bad Gateway</html>"),
    ),
    Speech(
        name="error_with_status_200",
        servers="some gateways",
        what="an error object with status 200",
        refused="context length exceeded",
        refuse=_replies(200, _error("context length exceeded", code=400)),
    ),
    Speech(
        name="error_flag",
        servers="some gateways",
        what='`"error": true` and a message',
        refused="no capacity",
        refuse=_replies(200, {"error": True, "message": "no capacity"}),
    ),
    Speech(
        name="detail_with_status_200",
        servers="FastAPI",
        what="a `detail` with status 200",
        refused="no such adapter",
        refuse=_replies(200, {"detail": "no such adapter"}),
    ),
    Speech(
        name="error_chunk",
        servers="vLLM, SGLang",
        what="an error object in the stream",
        refused="out of memory",
        stream=_fails(b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'),
    ),
    Speech(
        name="error_text_chunk",
        servers="TGI",
        what="an error text in the stream",
        refused="overloaded",
        stream=_fails(b'data: {"error": "overloaded", "error_type": "overloaded"}\n\n'),
    ),
    Speech(
        name="error_object_chunk",
        servers="older vLLM",
        what='an object of the type `"error"` in the stream',
        refused="out of memory",
        stream=_fails(b'data: {"object": "error", "message": "out of memory", "code": 500}\n\n'),
    ),
    Speech(
        name="error_event",
        servers="several",
        what="an event with the name `error`",
        refused="overloaded",
        stream=_fails(
            b'event: error\ndata: {"message": "overloaded", "type": "overloaded_error"}\n\n'
        ),
    ),
    Speech(
        name="error_event_text",
        servers="several",
        what="an event `error` with plain text",
        refused="upstream timed out",
        stream=_fails(b"event: error\ndata: upstream timed out\n\n"),
    ),
    Speech(
        name="closed_connection",
        servers="any",
        what="a connection that closes in the middle",
        refused="not completed",
        stream=_fails(),
    ),
    Speech(
        name="ended_stream",
        servers="any",
        what="a stream without a finish reason",
        refused="have no finish reason",
        stream=Stream(last=nothing),
    ),
)
