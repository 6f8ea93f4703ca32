from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common import sse
from secondpass.service.common.sse import EventParser, EventTooLong


def parsed(*chunks: bytes) -> list[bytes]:
    parser = EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.close()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": hello\n\nevent: x\nid: 7\nretry: 1\ndata: a\n\n", [b"a"]),
        (b"data\n\ndata:\n\ndata: a\n\n", [b"a"]),
        (b"database: a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b"data: a\n\ndata: the last one is not ended", [b"a", b"the last one is not ended"]),
        (b"", []),
    ],
)
def test_events_are_parsed_as_in_the_standard(stream: bytes, events: list[bytes]) -> None:
    assert parsed(stream) == events


def test_events_have_their_names() -> None:
    stream = b"event: a\ndata: 1\n\ndata: 2\n\nevent:b\n\ndata: 3\n\nevent: c\r\nid: 7\r\ndata: 4\r\n\r\n"
    named = [(b"a", b"1"), (b"", b"2"), (b"", b"3"), (b"c", b"4")]
    for size in (1, 7, len(stream)):
        parser = EventParser()
        parsed_events: list[tuple[bytes, bytes]] = []
        for start in range(0, len(stream), size):
            events = parser.feed(stream[start : start + size])
            parsed_events += zip(parser.names, events, strict=True)
        assert parsed_events == named


lines = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=20)


@given(
    st.lists(lines, max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(0, 400), max_size=20),
)
def test_events_do_not_depend_on_chunk_boundaries(
    texts: list[str], newline: str, offsets: list[int]
) -> None:
    stream = "".join(f": note{newline}data: {text}{newline}{newline}" for text in texts).encode()
    edges = [0, *sorted(min(offset, len(stream)) for offset in offsets), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]

    events = [text.encode() for text in texts if text]
    assert parsed(*chunks) == events
    assert parsed(*(bytes([byte]) for byte in stream)) == events


@pytest.mark.parametrize("chunk", [b"x" * 50, b"data: " + b"x" * 50 + b"\n"])
def test_an_unfinished_event_beyond_the_size_limit_raises(
    chunk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    parser = EventParser()

    def feed_repeatedly() -> None:
        for _ in range(100):
            parser.feed(chunk)

    with pytest.raises(EventTooLong):
        feed_repeatedly()
