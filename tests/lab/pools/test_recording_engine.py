"""Recording engine: calls are made once, recorded, and replayed."""

from contextlib import aclosing
from dataclasses import replace
from itertools import count
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.calls.upstream import Upstream
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.pool import open_pool, read_pool
from secondpass.service.lab.pools.questions import read_questions
from secondpass.service.lab.pools.record import sample_call
from secondpass.service.lab.pools.recording_engine import RecordingEngine
from secondpass.service.lab.pools.replay_engine import ReplayEngine
from secondpass.service.lab.pools.sample_drawer import SampleDrawer
from secondpass.strategies.api.engine import Call, Delta, Engine
from secondpass.strategies.api.errors import CallRejected
from secondpass.strategies.api.values import Message
from tests.lab.pools.support import HEADER, numbered, recorded, write_rows

JUDGE = Call(
    role="judge",
    purpose="verdict",
    messages=(Message(role="user", content="Is it right?"),),
    labels=("Yes", "No"),
)


def ask(engine: Engine, *calls: Call) -> list[list[Delta]]:
    async def one(call: Call) -> list[Delta]:
        async with aclosing(engine.stream(call)) as deltas:
            return [delta async for delta in deltas]

    async def every() -> list[list[Delta]]:
        return [await one(call) for call in calls]

    return anyio.run(every)


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.jsonl")


@pytest.fixture
def path(tmp_path: Path, data: Path) -> Path:
    recorded(tmp_path / "pool.jsonl", data, n=2)
    return tmp_path / "pool.jsonl"


def test_a_label_read_is_made_once_and_replayed(path: Path) -> None:
    real = ScriptedEngine(numbered)
    with open_pool(path, HEADER) as pool_file:
        engine = RecordingEngine(real, pool_file)
        first, second = ask(engine, JUDGE, replace(JUDGE, index=3))
    assert len(real.calls) == 1
    assert first[0].labels == second[0].labels == {"Yes": 0.4, "No": 0.4}
    (again,) = ask(ReplayEngine(read_pool(path)), JUDGE)
    assert again[0].labels == first[0].labels


def test_recorded_drafts_come_from_the_pool_and_others_from_the_engine(
    path: Path, data: Path
) -> None:
    call = sample_call(read_questions(data, "math")[0], HEADER)
    real = ScriptedEngine(numbered)
    with open_pool(path, HEADER) as pool_file:
        replies = ask(RecordingEngine(real, pool_file), call, replace(call, index=2), call)
    assert [made.index for made in real.calls] == [2]
    (again,) = ask(ReplayEngine(read_pool(path)), replace(call, index=2))
    assert text(again) == text(replies[1])


def test_sampled_judgements_are_recorded_by_index(path: Path) -> None:
    real = ScriptedEngine(numbered)
    critic = replace(JUDGE, labels=(), purpose="critique")
    with open_pool(path, HEADER) as pool_file:
        ask(RecordingEngine(real, pool_file), critic, replace(critic, index=1), critic)
    assert [made.index for made in real.calls] == [0, 1]


def test_an_abandoned_call_is_not_recorded(path: Path) -> None:
    critic = replace(JUDGE, labels=())

    async def leave() -> None:
        with open_pool(path, HEADER) as pool_file:
            engine = RecordingEngine(ScriptedEngine(numbered), pool_file)
            async with aclosing(engine.stream(critic)) as deltas:
                await anext(deltas)

    before = len(read_pool(path).samples)
    anyio.run(leave)
    assert len(read_pool(path).samples) == before
    with pytest.raises(CallRejected):
        ask(ReplayEngine(read_pool(path)), critic)


def test_a_truncated_sample_is_drawn_again_for_a_larger_limit(path: Path) -> None:
    critic = replace(JUDGE, labels=())
    short = replace(critic, sampling=critic.sampling.model_copy(update={"max_tokens": 2}))
    real = ScriptedEngine(numbered)
    with open_pool(path, HEADER) as pool_file:
        engine = RecordingEngine(real, pool_file)
        cut, whole, cut_again = ask(engine, short, critic, short)
    assert len(real.calls) == 2
    assert text(cut) == text(cut_again) == text(whole)[: len(text(cut))]
    (again,) = ask(ReplayEngine(read_pool(path)), critic)
    assert text(again) == text(whole)


@settings(max_examples=25)
@given(caps=st.lists(st.none() | st.integers(1, 6), min_size=1, max_size=6))
def test_a_repeated_call_receives_its_first_completion(
    tmp_path_factory: pytest.TempPathFactory, caps: list[int | None]
) -> None:
    """This holds for an engine without repeated completions, and after draws under larger limits."""
    critic = replace(JUDGE, labels=())
    calls = [
        replace(critic, sampling=critic.sampling.model_copy(update={"max_tokens": cap}))
        for cap in caps
    ]
    drafts = count()
    with open_pool(tmp_path_factory.mktemp("pool") / "pool.jsonl", HEADER) as pool_file:
        real = ScriptedEngine(lambda call, index: Reply(f"draft {next(drafts)} is not another"))
        received = ask(RecordingEngine(real, pool_file), *calls)
    again = ask(ReplayEngine(read_pool(pool_file.pool.path)), *calls)
    assert list(map(text, again)) == list(map(text, received))


def test_a_call_for_confidences_is_not_served_a_draft_without_them(path: Path, data: Path) -> None:
    call = sample_call(read_questions(data, "math")[0], HEADER)
    bare = path.with_name("bare.jsonl")
    pool = read_pool(path)
    real = ScriptedEngine(lambda call, index: Reply("another draft"))
    with open_pool(bare, HEADER) as pool_file:
        pool_file.add(pool.passes[0])
        for sample in pool.samples.values():
            pool_file.add(sample.model_copy(update={"confidences": ()}))
        plain, sure, again = ask(
            RecordingEngine(real, pool_file),
            replace(call, logprobs=None),
            call,
            replace(call, logprobs=None),
        )
    assert len(real.calls) == 1
    assert text(sure) == "another draft"
    assert any(delta.confidences for delta in sure)
    assert text(again) == text(plain) != text(sure)
    replayed = ask(ReplayEngine(read_pool(bare)), call, replace(call, logprobs=None))
    assert list(map(text, replayed)) == [text(sure), text(plain)]


def test_a_draw_with_a_larger_limit_is_separate(path: Path) -> None:
    """Two runs are missing the same draw concurrently, one under a limit that truncates it."""
    critic = replace(JUDGE, labels=())
    short = replace(critic, sampling=critic.sampling.model_copy(update={"max_tokens": 2}))

    async def draw(engine: Engine) -> None:
        await SampleDrawer(Upstream(engine), 4, lambda _: None).draw([short, critic, short])

    with open_pool(path, HEADER) as pool_file:
        anyio.run(draw, RecordingEngine(ScriptedEngine(numbered), pool_file))
    cut, whole = ask(ReplayEngine(read_pool(path)), short, critic)
    assert text(whole) != text(cut) == text(whole)[: len(text(cut))]


def test_another_model_is_rejected_with_file_and_line(path: Path) -> None:
    with open_pool(path, HEADER) as pool_file, pytest.raises(BadLine, match=f"^{path}:1: model: "):
        RecordingEngine(ScriptedEngine(model="other"), pool_file)
