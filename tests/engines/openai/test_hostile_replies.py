"""Any reply of a server becomes deltas or an EngineError, however it is written to the socket."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.replies import ReplyReader
from secondpass.service.engines.openai.wire import Dialect
from secondpass.strategies.api.engine import Delta
from secondpass.strategies.api.errors import EngineError
from secondpass.strategies.api.values import Capability, Role
from tests.engines.support import CALL

counts: st.SearchStrategy[Any] = st.sampled_from(
    [None, 0, 1, 2, 7, -1, 2.0, "3", True, 2**40, 10**400, [], {}]
)
scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=4)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
usages = json_values | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": counts,
        "completion_tokens": counts,
        "prompt_cache_hit_tokens": counts,
        "prompt_tokens_details": st.none() | st.fixed_dictionaries({"cached_tokens": counts}),
    },
)
texts = st.none() | st.text(max_size=5) | json_values
parts = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "thinking", "reference", "image", 3])},
        optional={"text": texts, "thinking": texts},
    ),
    max_size=3,
)
messages = json_values | st.fixed_dictionaries(
    {},
    optional={
        "content": texts | parts,
        "reasoning": texts | parts,
        "refusal": texts,
        "tool_calls": json_values,
    },
)
reasons: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "stop", "STOP", "length", "abort", "error", "odd", 3, {}]
)
logprobs = json_values | st.fixed_dictionaries(
    {},
    optional={
        "content": json_values
        | st.lists(
            st.fixed_dictionaries(
                {"token": texts, "logprob": scalars, "top_logprobs": json_values}
            ),
            max_size=2,
        ),
        "token_logprobs": json_values,
        "top_logprobs": json_values,
    },
)
choices = json_values | st.fixed_dictionaries(
    {},
    optional={
        "index": st.sampled_from([0, 1, 2, -1, None, "0", 0.0, True, []]),
        "delta": messages,
        "message": messages,
        "text": texts,
        "finish_reason": reasons,
        "usage": usages,
        "logprobs": logprobs,
        "token_ids": json_values,
    },
)
chunks = json_values | st.fixed_dictionaries(
    {},
    optional={
        "choices": json_values | st.lists(choices, max_size=2),
        "usage": usages,
        "x_groq": usages | st.fixed_dictionaries({"usage": usages}),
        "error": json_values,
        "message": texts,
        "prompt_token_ids": json_values,
    },
)
dialects = st.builds(
    Dialect,
    model=st.just("model"),
    capabilities=st.sampled_from(
        [frozenset[Capability](), frozenset[Capability](["token_counts"])]
    ),
    has_token_ids=st.booleans(),
    counts_per_choice=st.booleans(),
)


class ScriptedConnection(Connection):
    """A connection whose replies are the byte chunks `parts`."""

    parts: Sequence[bytes] = ()

    async def chunks(
        self, response: httpx.Response, *, role: Role | None = None
    ) -> AsyncGenerator[bytes]:
        for part in self.parts:
            yield part


_LOOP = asyncio.new_event_loop()
_CONNECTION = ScriptedConnection("e", "http://upstream/v1", client=httpx.AsyncClient())


@pytest.fixture(scope="module", autouse=True)
def _close_loop() -> Iterator[None]:
    yield
    _LOOP.run_until_complete(_CONNECTION.aclose())
    _LOOP.close()


async def _deltas(reader: ReplyReader, connection: Connection) -> AsyncIterator[Delta]:
    async with aclosing(connection.events(httpx.Response(200))) as events:
        with connection.parsing(None):
            async for payloads in events:
                for payload in payloads:
                    for delta in reader.read(payload):
                        yield delta
    for delta in reader.early_usage():
        yield delta
    reader.finish(None)


def outcome(parts: Sequence[bytes], dialect: Dialect, n: int, logprobs: int | None) -> list[object]:
    """Return the deltas of a reply, and the error that ends them."""
    found: list[object] = []

    async def read() -> None:
        _CONNECTION.parts = parts
        reader = ReplyReader(replace(CALL, n=n, logprobs=logprobs), _CONNECTION, dialect)
        async for delta in _deltas(reader, _CONNECTION):
            found.append(delta)  # noqa: PERF401  an error must not lose the deltas before it

    try:
        _LOOP.run_until_complete(read())
    except EngineError as error:
        found.append((type(error), str(error)))
    return found


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@settings(max_examples=200)
@given(st.lists(chunks, max_size=5), dialects, st.integers(1, 2), st.sampled_from([None, 0, 2]))
@example([{"error": {"code": 1e999}}], Dialect(model="model"), 1, None)
def test_any_chunks_become_deltas_or_an_engine_error(
    values: list[Any], dialect: Dialect, n: int, logprobs: int | None
) -> None:
    for each in outcome([*map(_event, values)], dialect, n, logprobs):
        if isinstance(each, Delta):
            assert 0 <= each.index < n
            assert each.tokens >= 0
            if each.usage is not None:
                figures = (each.usage.prompt, each.usage.cached, each.usage.completion)
                assert all(type(x) is int and x >= 0 for x in figures if x is not None)


@given(
    st.lists(chunks, max_size=3),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([b"", b"data: [DONE]\n\n", b"data: [DONE] ", b"event: error\ndata: no\n\n"]),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_a_reply_does_not_depend_on_the_chunks_of_its_bytes(
    values: list[Any], newline: str, end: bytes, cuts: list[int]
) -> None:
    body = b"".join(map(_event, values)) + end
    body = body.replace(b"\n", newline.encode())
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    parts = [body[start:stop] for start, stop in pairwise(edges)]
    dialect = Dialect(model="model")
    whole = outcome([body], dialect, 1, None)
    assert repr(outcome(parts, dialect, 1, None)) == repr(whole)
    assert repr(outcome([bytes([byte]) for byte in body], dialect, 1, None)) == repr(whole)


@given(st.text(min_size=1), st.booleans())
@example("🦊a🎉", True)
def test_characters_split_between_chunks_are_joined(text: str, is_split: bool) -> None:
    """A JavaScript proxy may split a character outside the basic plane into two chunks."""
    units = text.encode("utf-16-le")
    size = 2 if is_split else len(units)
    pieces = [units[at : at + size] for at in range(0, len(units), size)]
    chunks = [
        {
            "choices": [
                {"index": 0, "delta": {"content": piece.decode("utf-16-le", "surrogatepass")}}
            ]
        }
        for piece in pieces
    ]
    end = {"choices": [{"index": 0, "finish_reason": "stop"}]}
    found = outcome([*map(_event, [*chunks, end])], Dialect(model="model"), 1, None)
    assert "".join(each.text for each in found if isinstance(each, Delta)) == text


@given(st.binary(max_size=40))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"data: " + b"[" * 100_000 + b"\n\n")
def test_any_bytes_become_deltas_or_an_engine_error(body: bytes) -> None:
    outcome([body], Dialect(model="model"), 1, None)
