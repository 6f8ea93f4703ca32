"""Pools: recording, recovery from partial writes, and rejection of mismatching headers and questions."""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from secondpass.service.calls.upstream import Upstream
from secondpass.service.engines.scripted.engine import Fault, Reply, ScriptedEngine
from secondpass.service.lab.pools.drawing import draw
from secondpass.service.lab.pools.format import Header, key_of
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.pool import open_pool, read_pool
from secondpass.service.lab.pools.questions import read_questions
from secondpass.service.lab.pools.record import (
    DrawFailed,
    add_questions,
    missing_samples,
    sample_call,
)
from secondpass.strategies.api.engine import Call, Delta, Routing
from secondpass.strategies.api.values import Sampling
from secondpass.testing.support import upstream
from tests.lab.pools.support import HEADER, ROWS, draw_all, numbered, recorded, write_rows


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.jsonl")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pool.jsonl"


def test_a_recorded_pool_contains_all_samples_and_per_token_data(path: Path, data: Path) -> None:
    pool = recorded(path, data)
    assert list(pool.questions) == ["a", "b", "c"]
    assert pool.questions["b"].answer == "42"
    assert len(pool.samples) == 18
    for (key, index), sample in pool.samples.items():
        asked = pool.questions[sample.question or ""]
        assert (asked.key, HEADER.seed + index) == (key, sample.seed)
        reply = numbered(sample_call(read_questions(data, "math")[0], HEADER, index), index)
        assert sample.text == reply.text
        assert sample.tokens == len(sample.token_ids) == len(sample.logprobs) == len(sample.chars)
        assert set(sample.confidences) == {8.0}
        assert sum(sample.chars) == len(sample.text)
        assert 0 < sample.first_seconds < sample.seconds
    assert "boxed" in pool.questions["a"].messages[-1].text
    assert pool.passes[0].data[0].name == "data.jsonl"
    assert len(pool.passes[0].data[0].sha256) == 64


def test_samples_are_drawn_in_balanced_rounds(path: Path, data: Path) -> None:
    questions = read_questions(data, "math")
    with open_pool(path, HEADER) as pool_file:
        planned = missing_samples(pool_file.pool, questions, 6)
    first = [(sample_plan.question.id, sample_plan.call.index) for sample_plan in planned[:12]]
    assert sorted(first) == [(name, index) for name in "abc" for index in range(4)]
    assert {sample_plan.call.index for sample_plan in planned[12:]} == {4, 5}


def test_existing_samples_are_not_drawn_again(path: Path, data: Path) -> None:
    recorded(path, data, n=4)
    before = path.read_bytes()
    engine = ScriptedEngine(numbered)
    questions = read_questions(data, "math")
    with open_pool(path, HEADER) as pool_file:
        add_questions(pool_file, questions)
        assert missing_samples(pool_file.pool, questions, 4) == []
        planned = missing_samples(pool_file.pool, questions, 5)
        draw_all(engine, pool_file, planned)
    assert path.read_bytes().startswith(before)
    assert [call.index for call in engine.calls] == [4, 4, 4]


def test_a_sample_truncated_by_a_smaller_limit_is_drawn_again(path: Path, data: Path) -> None:
    questions = read_questions(data, "math")
    call = sample_call(questions[0], HEADER, 1)
    short = replace(call, sampling=call.sampling.model_copy(update={"max_tokens": 2}))
    engine = ScriptedEngine(numbered)
    with open_pool(path, HEADER) as pool_file:
        (truncated,) = anyio.run(draw, Upstream(engine), short)
        pool_file.add(truncated)
        draw_all(engine, pool_file, missing_samples(pool_file.pool, questions, 2))
    pool = read_pool(path)
    assert len(engine.calls) == 1 + 3 * 2
    assert pool.find(truncated.key, 1, 2) == truncated
    assert pool.samples[truncated.key, 1].finish_reason == "stop"


def test_a_draw_is_retried_within_the_admission_slots(path: Path, data: Path) -> None:
    faults: Iterator[Fault] = iter(("unavailable", "interrupt", "interrupt", "unavailable"))

    def flaky(call: Call, index: int) -> Reply:
        return replace(numbered(call, index), fault=next(faults, None))

    engine = ScriptedEngine(flaky, per_token=0.001)
    questions = read_questions(data, "math")
    with open_pool(path, HEADER) as pool_file:
        add_questions(pool_file, questions)
        planned = missing_samples(pool_file.pool, questions, 1)
        draw_all(upstream(engine, attempts=5, places=1), pool_file, planned)
    assert len(engine.calls) == 4 + 3
    texts = {place: sample.text for place, sample in read_pool(path).samples.items()}
    whole = recorded(path.with_name("whole.jsonl"), data, n=1).samples
    assert texts == {place: sample.text for place, sample in whole.items()}


def test_a_draw_that_always_fails_names_its_question(path: Path, data: Path) -> None:
    engine = ScriptedEngine(lambda *_: Reply("", fault="unavailable"))
    questions = read_questions(data, "math")
    with open_pool(path, HEADER) as pool_file, pytest.raises(DrawFailed, match="question 'a'"):
        draw_all(
            upstream(engine, attempts=2),
            pool_file,
            missing_samples(pool_file.pool, questions, 1)[:1],
        )
    assert len(engine.calls) == 2


def test_questions_with_equal_text_share_samples(path: Path, data: Path) -> None:
    pool = recorded(path, write_rows(data, [ROWS[0], ROWS[0] | {"id": "again"}]), n=2)
    assert len(pool.samples) == 2
    assert pool.questions["a"].key == pool.questions["again"].key


def test_a_truncated_file_is_a_pool_without_its_last_line(path: Path, data: Path) -> None:
    recorded(path, data, n=2)
    whole = path.read_bytes()
    header_ends = whole.index(b"\n") + 1
    for size in (*range(header_ends, header_ends + 40), *range(header_ends, len(whole), 97)):
        path.write_bytes(whole[:size])
        kept = whole[:size].count(b"\n")
        with open_pool(path, HEADER) as pool_file:
            assert pool_file.dropped_bytes == size - (whole[:size].rindex(b"\n") + 1)
            assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:kept])


def test_a_partial_header_is_replaced(path: Path) -> None:
    path.write_bytes(b'{"kind":"pool","form')
    with open_pool(path, HEADER) as pool_file:
        assert pool_file.dropped_bytes == 20
    assert read_pool(path).header == HEADER


def test_reading_a_truncated_pool_does_not_change_it(path: Path, data: Path) -> None:
    pool = recorded(path, data, n=2)
    path.write_bytes(truncated := path.read_bytes()[:-30])
    assert len(read_pool(path).samples) == len(pool.samples) - 1
    assert path.read_bytes() == truncated


def test_a_file_that_is_not_a_pool_is_not_overwritten(path: Path) -> None:
    for content in (b"my diary", b"my diary\n", b'{"id": "a"}\n'):
        path.write_bytes(content)
        with pytest.raises(BadLine, match=f"^{path}:1: "), open_pool(path, HEADER):
            pass
        assert path.read_bytes() == content


def test_one_process_at_a_time_records_into_a_pool(path: Path) -> None:
    with (
        open_pool(path, HEADER),
        pytest.raises(BadLine, match="another process is recording into it"),
        open_pool(path, HEADER),
    ):
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"sampling": Sampling(temperature=1.0, max_tokens=64)},
        {"sampling": Sampling(temperature=0.7, max_tokens=65)},
        {"formatted": False},
        {"seed": 6},
        {"logprobs": 5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_different_header_is_rejected(path: Path, data: Path, change: dict[str, Any]) -> None:
    recorded(path, data, n=1)
    before = path.read_bytes()
    other = HEADER.model_copy(update=change)
    field = next(iter(change))
    message = f"^{path}:1: {field}: the pool was recorded with"
    with pytest.raises(BadLine, match=message), open_pool(path, other):
        pass
    assert path.read_bytes() == before


def test_a_different_question_is_rejected_with_both_locations(path: Path, data: Path) -> None:
    recorded(path, data, n=1)
    changed = [ROWS[0], ROWS[1] | {"question": "What is 43?"}]
    questions = read_questions(write_rows(data, changed), "math")
    message = f"^{path}:3: question 'b': messages differs from {data}:2"
    with open_pool(path, HEADER) as pool_file, pytest.raises(BadLine, match=message):
        add_questions(pool_file, questions)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "invalid JSON"),
        ('{"kind": "guess"}', "kind: must be one of pool, pass, question, sample, not 'guess'"),
        ("{}", "kind: must be one of pool, pass, question, sample, not None"),
        ('{"kind": "sample", "key": "k"}', "index: is missing"),
        (HEADER.model_dump_json(), "second header"),
    ],
)
def test_an_invalid_line_is_reported(path: Path, data: Path, line: str, message: str) -> None:
    recorded(path, data, n=1)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[3:]]) + "\n")
    with pytest.raises(BadLine, match=f"^{path}:4: {message}"):
        read_pool(path)


def test_a_duplicate_line_is_reported(path: Path, data: Path) -> None:
    recorded(path, data, n=1)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1]]) + "\n")
    with pytest.raises(BadLine, match=f"^{path}:{len(lines) + 1}: duplicate sample 0"):
        read_pool(path)


def test_mismatching_token_counts_are_reported(path: Path, data: Path) -> None:
    recorded(path, data, n=1)
    lines = path.read_text().splitlines()
    last = json.loads(lines[-1])
    path.write_text("\n".join([*lines[:-1], json.dumps(last | {"tokens": 1})]) + "\n")
    with pytest.raises(BadLine, match=r"token_ids: .* entries for 1 tokens"):
        read_pool(path)


def test_a_failure_names_the_question_and_keeps_earlier_samples(path: Path, data: Path) -> None:
    def faulty(call: Call, index: int) -> Reply:
        if "half" in call.messages[-1].text:
            return Reply("", fault="refuse")
        return Reply("\\boxed{1}")

    with pytest.raises(DrawFailed, match=f"question 'c' \\({data}:3\\): refused by the script"):
        recorded(path, data, n=1, script=faulty)
    assert {sample.question for sample in read_pool(path).samples.values()} == {"a", "b"}


class Silent(ScriptedEngine):
    """Engine that returns no log probabilities although they are requested."""

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        async with aclosing(super().stream(call)) as deltas:
            async for delta in deltas:
                yield replace(delta, confidences=())


def test_a_draw_without_requested_confidences_fails(path: Path, data: Path) -> None:
    questions = read_questions(data, "math")
    with (
        open_pool(path, HEADER) as pool_file,
        pytest.raises(DrawFailed, match="returned no log probabilities of 20"),
    ):
        draw_all(Silent(numbered), pool_file, missing_samples(pool_file.pool, questions, 1))
    assert not read_pool(path).samples
    plain = HEADER.model_copy(update={"logprobs": 0})
    with open_pool(path.with_name("plain.jsonl"), plain) as pool_file:
        draw_all(Silent(numbered), pool_file, missing_samples(pool_file.pool, questions, 1))
        assert len(pool_file.pool.samples) == 3


def test_a_key_covers_exactly_what_determines_the_distribution(data: Path) -> None:
    call = sample_call(read_questions(data, "math")[0], HEADER)
    header = Header.model_validate(HEADER.model_dump() | {"seed": 99})
    assert key_of(sample_call(read_questions(data, "math")[0], header, 7)) == key_of(call)
    shorter = call.sampling.model_copy(update={"max_tokens": 2, "seed": None})
    hotter = call.sampling.model_copy(update={"temperature": 1.1})

    def changed(**fields: Any) -> Call:
        return Call(
            **{name: getattr(call, name) for name in ("role", "purpose", "messages", "sampling")}
            | fields
        )

    same: list[dict[str, Any]] = [
        {"sampling": shorter},
        {"role": "critic"},
        {"purpose": "other"},
        {"n": 3},
        {"index": 2},
        {"logprobs": 1},
        {"visible": True},
        {"routing": Routing(session="s")},
    ]
    others: list[dict[str, Any]] = [
        {"sampling": hotter},
        {"messages": call.messages * 2},
        {"prefix": (1,)},
        {"schema": "{}"},
        {"thinking": False},
        {"labels": ("A", "B")},
    ]
    assert {key_of(changed(**fields)) for fields in same} == {key_of(call)}
    keys = [key_of(changed(**fields)) for fields in others]
    assert len({key_of(call), *keys}) == 1 + len(others)
