"""Votes over hostile texts take bounded time and memory, and elect as a recount of all objects does."""

import json
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.values import Candidate
from secondpass.strategies.voting.json_fields import (
    MAX_FIELDS,
    MAX_LENGTH,
    MAX_PATH,
    FieldVote,
    fields_of,
)
from secondpass.strategies.voting.medoid import MAX_LENGTH as MAX_COMPARED
from secondpass.strategies.voting.medoid import Medoid
from tests.hostile_text.timing import LIMIT

SAMPLES = 64


def _candidate(text: str, index: int) -> Candidate:
    return Candidate(text=text, answer=text, index=index)


def _seconds(add: Callable[[Candidate], object], text: str, index: int) -> float:
    """Return the CPU time in which a candidate is added, once."""
    start = time.thread_time()
    add(_candidate(text, index))
    return time.thread_time() - start


def _flat(fields: int, name: str = "f") -> str:
    return json.dumps({f"{name}{at}": at for at in range(fields)})


OBJECTS: dict[str, Callable[[int], str]] = {
    "equal": lambda _: _flat(MAX_FIELDS),
    "disjoint": lambda at: _flat(MAX_FIELDS, f"f{at}_"),
    "24 kB": lambda at: _flat(1_900 + at),
    "200 kB of one path": lambda _: '{"' + "k" * 90 + '":' + "{" + _flat(18_000)[1:] + "}",
    "nested lists": lambda _: '{"a":' + "[1," * 8_000 + "1" + "]" * 8_000 + "}",
    "exponents": lambda _: '{"a":[' + "1e999999," * 5_000 + "1]}",
    "digits": lambda _: '{"a":' + "7" * 40_000 + "}",
    "escapes": lambda _: '{"' + "~/" * 20_000 + '":1}',
    "one list": lambda at: '{"a":[' + "1," * 20_000 + f"{at}]}}",
}


@pytest.mark.no_cover  # coverage multiplies the time
@pytest.mark.serial
@pytest.mark.parametrize("kind", OBJECTS)
def test_a_vote_of_64_hostile_objects_never_takes_long(kind: str) -> None:
    vote = FieldVote()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = [_seconds(vote.add, OBJECTS[kind](index), index) for index in range(SAMPLES)]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert sum(seconds) < 1.5
    assert sorted(seconds)[-3] < LIMIT
    assert grown < 100_000  # KiB


@pytest.mark.no_cover  # coverage multiplies the time
@pytest.mark.serial
def test_64_texts_of_100_kilobytes_have_a_medoid_in_bounded_time() -> None:
    source = random.Random(1)
    letters = [chr(code) for code in range(0x4E00, 0x9000)]
    texts = ["".join(source.choices(letters, k=100_000)) for _ in range(SAMPLES)]
    medoid = Medoid()

    def add(candidate: Candidate) -> None:
        medoid.add(candidate)
        assert medoid.leader is not None

    seconds = [_seconds(add, text, index) for index, text in enumerate(texts)]
    assert sum(seconds) < 2.5
    assert sorted(seconds)[-3] < LIMIT


def test_both_ends_of_a_long_text_are_compared() -> None:
    long = "a" * MAX_COMPARED
    medoid = Medoid()
    for index, text in enumerate((f"{long}xyz", f"xyz{long}", "xyz", "abc")):
        medoid.add(_candidate(text, index))
    assert medoid.leader.index in (0, 1)


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        (_flat(MAX_FIELDS), True),
        (_flat(MAX_FIELDS + 1), False),
        (json.dumps({"k" * (MAX_PATH - 1): 1}), True),
        (json.dumps({"k" * MAX_PATH: 1}), False),
        (json.dumps({"k" * 200: {"k" * 200: 1}}), False),
        ('{"a": "' + "x" * (MAX_LENGTH - 9) + '"}', True),
        ('{"a": "' + "x" * MAX_LENGTH + '"}', False),
        ("Text. " * MAX_LENGTH + '\n```json\n{"a": 1}\n```', True),
    ],
)
def test_objects_beyond_the_limits_have_no_fields(text: str, *, is_read: bool) -> None:
    assert (fields_of(text) is not None) == is_read


def _recounted(objects: list[dict[str, str]]) -> tuple[int, int]:
    """Return the position of the elected object and its number of majority values, counted from scratch."""
    paths = dict.fromkeys(path for fields in objects for path in fields)
    counts = {path: Counter(fields.get(path) for fields in objects) for path in paths}
    majority = {path: values.most_common(1)[0][0] for path, values in counts.items()}

    def rank(fields: dict[str, str]) -> tuple[int, int]:
        own = [(path, fields.get(path)) for path in majority]
        return (
            sum(majority[path] == value for path, value in own),
            sum(counts[path][value] for path, value in own),
        )

    ranks = [rank(fields) for fields in objects]
    return ranks.index(max(ranks)), max(ranks)[0]


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2), max_size=4),
        min_size=2,
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_an_election_always_equals_a_recount(
    found: list[dict[str, Any]], chance: random.Random
) -> None:
    texts = list(enumerate(map(json.dumps, found)))
    chance.shuffle(texts)
    vote = FieldVote()
    for number, (index, text) in enumerate(texts, 1):
        vote.add(_candidate(text, index))
        if number < 2:
            continue
        assert vote.leader is not None
        objects = [dict(fields_of(each) or {}) for _, each in sorted(texts[:number])]
        position, agreed = _recounted(objects)
        assert vote.leader.index == sorted(texts[:number])[position][0]
        paths = {path for fields in objects for path in fields}
        assert vote.leader.why == (
            f"{agreed} of {len(paths)} fields as in most of {number} objects"
        )
