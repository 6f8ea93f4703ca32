"""Keys and inner addresses are removed from texts of servers, in linear time."""

import html
import json
import re
import time
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from secondpass.service.engines.common.redaction import KeyMask, Redactor
from secondpass.strategies.api.errors import EngineError

KEY = "sk-proj/a+b=c&d'e<f>g_1234567890"
OTHER = "token-of-another-engine"
URL = "http://vllm-0.models:8000/v1"
REDACTOR = Redactor("big", URL, (KEY, OTHER, "EMPTY"))

keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=64)
spellings: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [
        str,
        str.upper,
        str.lower,
        quote,
        quote_plus,
        lambda key: quote(key, safe=""),
        lambda key: quote(quote(key, safe=""), safe=""),
        lambda key: "".join(f"%{ord(each):02X}" for each in key),
        lambda key: "".join(f"\\u{ord(each):04x}" for each in key),
        lambda key: json.dumps(key)[1:-1],
        lambda key: html.escape(key, quote=True),
        lambda key: f"Bearer {key}",
        lambda key: json.dumps({"headers": {"AUTHORIZATION": f"BEARER {key.upper()}"}}),
    ]
)


@given(keys, st.text(max_size=40), st.text(max_size=40), spellings)
@example("sk-aaaaaaaaaaaa", "a" * 190, "", str)
@example("sk-aaaaaaaaaaaa", " " * 70_000, "b" * 5_000, str)
def test_no_spelling_of_a_key_remains(
    key: str, before: str, after: str, spell: Callable[[str], str]
) -> None:
    assume(
        key.lower() not in "[key] [address] big port"
        and not before.lower().endswith(key.lower()[0])
    )
    redactor = Redactor("big", URL, (key,))
    text = f"{before}{spell(key)}{after}"
    for found in (redactor.clean(text), redactor.for_client(text), redactor.for_log(text)):
        if key.lower() not in f"{before}[key]{after}".lower():
            assert key.lower() not in found.lower()
        assert spell(key) not in found or spell(key) in f"{before}[key]{after}"
    assert len(redactor.for_client(text)) <= 200


@pytest.mark.parametrize("size", range(120, 200, 7))
def test_a_key_at_the_end_of_an_excerpt_leaves_no_beginning(size: int) -> None:
    text = "x" * size + " " + KEY
    assert "sk-p" not in REDACTOR.for_client(text) + REDACTOR.for_log(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Cannot connect to host vllm-0.models:8000 [Connect call failed ('10.0.3.7', 8000)]",
            "Cannot connect to host big [Connect call failed ('[address]', 0)]",
        ),
        ("connect to 10.0.3.7:8000 refused", "connect to [address] refused"),
        ("HTTP://VLLM-0.models:8000/v1/chat failed", "big failed"),
        ("http://router/v1?a=b and localhost:9", "[address] and [address]"),
        ("http://u:p@example.com/x", "[address]"),
        ("[fe80::1]:80, ::1 at 12:30:45", "[address], [address] at 12:30:45"),
        ("redis.cache.svc.cluster.local:6379", "[address]"),
        ("ip-10-0-3-7.ec2.internal", "[address]"),
        ('{"host":"10.0.0.1","port":8000}', '{"host":"[address]","port":0}'),
        ("see https://platform.openai.com/account.", "see https://platform.openai.com/account."),
        ("max_tokens: 4096 of v0.9.2", "max_tokens: 4096 of v0.9.2"),
        ("key EMPTY of an empty list", "key [key] of an empty list"),
        ("Bearer abc123def", "Bearer [key]"),
        ("a Bearer token is required", "a Bearer token is required"),
        ("Incorrect API key: sk-abcd1234", "Incorrect API key: [key]"),
        (f"used {OTHER}", "used [key]"),
        ("a\x1b[2J\x00b\u202e", "a\ufffd[2J\ufffdb\ufffd"),
    ],
)
def test_a_client_reads_neither_keys_nor_addresses(text: str, expected: str) -> None:
    assert REDACTOR.for_client(text) == expected


def test_the_log_names_addresses_but_no_keys() -> None:
    error = REDACTOR.error(lambda quoted: EngineError(quoted(f"10.0.3.7:8000 refused {KEY}")))
    assert str(error) == "[address] refused [key]"
    assert error.logged == "10.0.3.7:8000 refused [key]"


@given(
    st.lists(st.binary(max_size=12) | st.sampled_from([KEY.encode(), KEY.upper().encode()])),
    st.data(),
)
def test_a_stream_of_bytes_is_masked_however_it_is_split(
    parts: list[bytes], data: st.DataObject
) -> None:
    body = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)))))
    edges = [0, *cuts, len(body)]
    mask = KeyMask((KEY.lower().encode(),))
    found = b"".join(mask.feed(body[a:b]) for a, b in pairwise(edges))
    found += mask.close()
    assert found == re.sub(re.escape(KEY).encode(), b"*" * len(KEY), body, flags=re.IGNORECASE)


def test_text_that_cannot_begin_a_key_is_passed_on_at_once() -> None:
    mask = KeyMask((KEY.lower().encode(),))
    assert mask.feed(b"data: one\n\n") == b"data: one\n\n"
    assert (mask.feed(b"data: sk-pr"), mask.feed(b"one")) == (b"data: ", b"sk-prone")


UNITS = (
    "a",
    ":",
    "a.",
    "ab:",
    "a://",
    "1.",
    "sk-",
    KEY[:-1],
    "a@",
    "bearer ",
    "[",
    "a+",
    "%25",
    "\\",
    "1",
    "\n",
)


@pytest.mark.serial
@pytest.mark.parametrize("unit", UNITS)
def test_the_time_grows_no_faster_than_the_text(unit: str) -> None:
    def seconds(size: int) -> float:
        text = f"http://{unit * size}"[:size]
        times = []
        for _ in range(3):
            start = time.process_time()
            REDACTOR.clean(text)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(40_000) < 12 * seconds(10_000) + 0.01
    start = time.process_time()
    REDACTOR.for_client(unit * 1_000_000)
    assert time.process_time() - start < 0.05
