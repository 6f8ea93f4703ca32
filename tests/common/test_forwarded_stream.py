"""Completeness of a forwarded event stream, for any division into chunks."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.forwarded_stream import (
    MAX_PENDING_BYTES,
    ForwardedStream,
    is_event_stream,
)

TEXTS = st.text() | st.sampled_from(
    ["data: [DONE]", '"finish_reason": "stop"', '{"error": {"code": 1}}', "\n\ndata: [DONE]\n\n"]
)


def content(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode()


def divided(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(
    st.lists(TEXTS, max_size=5),
    st.lists(st.integers(0, 300)),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_complete_events_are_forwarded_at_once_and_no_text_completes_a_stream(
    texts: list[str], cuts: list[int], line_end: str
) -> None:
    blank = line_end.encode() * 2
    texts = [text.encode(errors="replace").decode() for text in texts]
    data = b"".join(content(text) + blank for text in texts)
    stream = ForwardedStream()
    forwarded = b"".join(map(stream.feed, divided(data, cuts)))
    assert forwarded + stream.pending == data
    assert stream.pending in (b"", blank[-1:])
    is_complete = [stream.is_complete]
    end = stream.feed(b"data: [DONE]" + blank)
    assert [*is_complete, stream.is_complete] == [False, True]
    assert end.endswith(b"data: [DONE]" + blank)


@given(st.lists(TEXTS, max_size=3), st.integers(1, 60), st.lists(st.integers(0, 300)))
def test_an_unfinished_event_is_not_forwarded(
    texts: list[str], length: int, cuts: list[int]
) -> None:
    texts = [text.encode(errors="replace").decode() for text in texts]
    events = b"".join(content(text) + b"\n\n" for text in texts)
    data = events + content("unfinished")[:length]
    stream = ForwardedStream()
    assert b"".join(map(stream.feed, divided(data, cuts))) == events
    assert stream.close() == b""


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_a_stream_that_ends_with_done_is_unchanged_whatever_precedes_it(
    data: bytes, cuts: list[int]
) -> None:
    data += b"\n\ndata: [DONE]\n\n"
    stream = ForwardedStream()
    parts = [stream.feed(part) for part in divided(data, cuts)]
    assert b"".join((*parts, stream.close())) == data
    assert stream.is_complete


def test_an_event_over_the_limit_is_forwarded_in_parts() -> None:
    stream = ForwardedStream()
    size = MAX_PENDING_BYTES // 2
    assert [len(stream.feed(b"x" * size)) for _ in range(3)] == [0, 0, 3 * size]


def test_only_a_successful_unencoded_event_stream_without_a_length_is_extended() -> None:
    kind = ("Content-Type", "Text/Event-Stream; charset=utf-8")
    assert is_event_stream(200, [kind])
    assert not is_event_stream(500, [kind])
    assert not is_event_stream(200, [("content-type", "application/json")])
    assert not is_event_stream(200, [kind, ("content-encoding", "gzip")])
    assert not is_event_stream(200, [kind, ("content-length", "9")])
