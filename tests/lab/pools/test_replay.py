"""Replay engine and replayed runs: recorded samples, at recorded times, each at most once."""

from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.common.events import CallFinished
from secondpass.service.common.limits import Limits
from secondpass.service.lab.pools.clock import run_virtually
from secondpass.service.lab.pools.format import PoolQuestion, Sample
from secondpass.service.lab.pools.pool import Pool
from secondpass.service.lab.pools.questions import read_questions
from secondpass.service.lab.pools.record import sample_call
from secondpass.service.lab.pools.replay_engine import ReplayEngine
from secondpass.service.lab.pools.replay_run import Replayed, VirtualTimeEquivalence, replay_run
from secondpass.strategies.api.engine import Call, Delta, PlainRequest
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable
from secondpass.strategies.api.values import ReportedUsage, Sampling
from tests.lab.pools.support import HEADER, recorded, write_rows

N = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "data.jsonl")


@pytest.fixture(scope="module")
def pool(data: Path) -> Pool:
    return recorded(data.with_name("pool.jsonl"), data, n=N)


@pytest.fixture
def call(data: Path) -> Call:
    return sample_call(read_questions(data, "math")[0], HEADER)


def deltas_of(engine: ReplayEngine, call: Call) -> tuple[list[Delta], list[float]]:
    """Return the deltas of a call and their virtual arrival times."""

    async def read() -> tuple[list[Delta], list[float]]:
        found: list[Delta] = []
        times: list[float] = []
        async with aclosing(engine.stream(call)) as deltas:
            async for delta in deltas:
                found.append(delta)
                times.append(anyio.current_time())
        return found, times

    return run_virtually(read)


def text(deltas: list[Delta], index: int = 0) -> str:
    return "".join(delta.text for delta in deltas if delta.index == index)


def test_a_completion_is_streamed_as_recorded(pool: Pool, call: Call) -> None:
    sample = pool.samples[pool.questions["a"].key, 2]
    deltas, times = deltas_of(ReplayEngine(pool, tokens_per_delta=3), replace(call, index=2))
    assert text(deltas) == sample.text
    assert [delta.tokens for delta in deltas[:-1]] == [3] * (len(deltas) - 1)
    assert sum(delta.tokens for delta in deltas) == sample.tokens
    assert tuple(x for delta in deltas for x in delta.token_ids) == sample.token_ids
    assert tuple(x for delta in deltas for x in delta.confidences) == sample.confidences
    assert tuple(x for delta in deltas for x in delta.logprobs) == sample.logprobs
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    assert deltas[-1].usage == ReportedUsage(sample.prompt, sample.cached, sample.tokens)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(sample.seconds)


def test_log_probabilities_are_returned_only_on_request(pool: Pool, call: Call) -> None:
    deltas, _ = deltas_of(ReplayEngine(pool), replace(call, logprobs=None))
    assert not any(delta.logprobs or delta.confidences for delta in deltas)


@pytest.mark.parametrize("cap", [1, 4, 5])
def test_a_smaller_limit_truncates_a_completion(pool: Pool, call: Call, cap: int) -> None:
    sample = pool.samples[pool.questions["a"].key, 0]
    assert sample.tokens > cap
    sampling = call.sampling.model_copy(update={"max_tokens": cap})
    deltas, _ = deltas_of(ReplayEngine(pool), replace(call, sampling=sampling))
    assert text(deltas) == sample.text[: sum(sample.chars[:cap])]
    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion == cap


def test_completions_of_one_call_are_interleaved(pool: Pool, call: Call) -> None:
    deltas, times = deltas_of(ReplayEngine(pool), replace(call, n=3, index=1))
    key = pool.questions["a"].key
    assert [text(deltas, i) for i in range(3)] == [pool.samples[key, 1 + i].text for i in range(3)]
    assert any(a.index != b.index for a, b in pairwise(deltas[:6]))
    assert times == sorted(times)
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion == sum(delta.tokens for delta in deltas)


@given(shuffle=st.integers())
def test_a_shuffle_serves_each_sample_once(pool: Pool, data: Path, shuffle: int) -> None:
    engine = ReplayEngine(pool, shuffle=shuffle)
    for question in read_questions(data, "math"):
        call = sample_call(question, HEADER)
        served = [engine.find(replace(call, index=i))[0].index for i in range(N)]
        assert sorted(served) == list(range(N))
        again = ReplayEngine(pool, shuffle=shuffle).find(replace(call, n=N))
        assert [sample.index for sample in again] == served


def test_shuffles_differ(pool: Pool, call: Call) -> None:
    orders = {
        tuple(s.index for s in ReplayEngine(pool, shuffle=i).find(replace(call, n=N)))
        for i in range(20)
    }
    assert len(orders) > 10


def test_a_missing_call_is_rejected_with_a_description(pool: Pool, call: Call) -> None:
    hotter = call.sampling.model_copy(update={"temperature": 1.0})
    other = call.messages[0].model_copy(update={"content": "Why?"})
    missing = {
        "no sample 6, only 6 were recorded": replace(call, index=N),
        "no sample 6": replace(call, index=N - 1, n=2),
        "recorded with sampling .*0.7.*, not .*1.0": replace(call, sampling=hotter),
        "'solve' of the actor was not recorded; its conversation ends in 'Why": replace(
            call, messages=(other,)
        ),
        "'verdict' of the judge was not recorded": replace(
            call, labels=("A", "B"), role="judge", purpose="verdict"
        ),
        "confidences were recorded over 20 alternatives, not 5": replace(call, logprobs=5),
    }
    for message, asked in missing.items():
        with pytest.raises(CallRejected, match=message):
            deltas_of(ReplayEngine(pool), asked)
        with pytest.raises(CallRejected, match=message):
            anyio.run(ReplayEngine(pool).count_prompt, asked)


def test_a_truncated_draft_is_rejected_for_a_larger_limit(tmp_path: Path, data: Path) -> None:
    short = HEADER.model_copy(update={"sampling": Sampling(temperature=0.7, max_tokens=3)})
    pool = recorded(tmp_path / "short.jsonl", data, n=1, header=short)
    call = sample_call(read_questions(data, "math")[0], short)
    deltas, _ = deltas_of(ReplayEngine(pool), call)
    assert deltas[-1].finish_reason == "length"
    for cap in (4, None):
        sampling = call.sampling.model_copy(update={"max_tokens": cap})
        with pytest.raises(CallRejected, match="sample 0 was truncated at 3 tokens"):
            deltas_of(ReplayEngine(pool), replace(call, sampling=sampling))


def test_a_sample_without_token_counts_is_served_whole_or_rejected(pool: Pool, call: Call) -> None:
    whole = pool.samples[pool.questions["a"].key, 0]
    unknown = ("chars", "token_ids", "logprobs", "confidences")
    blank: dict[str, object] = dict.fromkeys(unknown, ())
    bare = Pool(pool.path, pool.header)
    bare.add(whole.model_copy(update=blank), 2)
    bare.add(whole.model_copy(update=blank | {"tokens": 0, "index": 1}), 3)
    for index, enough in ((0, whole.tokens), (1, 64)):
        for cap, is_served in ((enough, True), (enough - 1, False)):
            sampling = call.sampling.model_copy(update={"max_tokens": cap})
            asked = replace(call, sampling=sampling, index=index, logprobs=None)
            if is_served:
                assert text(deltas_of(ReplayEngine(bare), asked)[0]) == whole.text
            else:
                with pytest.raises(CallRejected, match=f"cannot be truncated at {cap}"):
                    deltas_of(ReplayEngine(bare), asked)


def test_missing_confidences_are_rejected_on_request(pool: Pool, call: Call) -> None:
    whole = pool.samples[pool.questions["a"].key, 0]
    bare = Pool(pool.path, pool.header)
    bare.add(whole.model_copy(update={"confidences": ()}), 2)
    deltas, _ = deltas_of(ReplayEngine(bare), replace(call, logprobs=None))
    assert text(deltas) == whole.text
    with pytest.raises(CallRejected, match="sample 0 was recorded without confidences"):
        deltas_of(ReplayEngine(bare), replace(call, logprobs=20))


def test_forwarded_requests_are_rejected(pool: Pool) -> None:
    with pytest.raises(EngineUnavailable):
        ReplayEngine(pool).forward(PlainRequest("chat/completions", b"{}"))


# -- whole runs -----------------------------------------------------------------------------------------


def replayed(
    pool: Pool,
    asked: PoolQuestion,
    shuffle: int | None = None,
    limits: Limits | None = None,
    **params: object,
) -> Replayed:
    async def run() -> Replayed:
        async with VirtualTimeEquivalence() as equivalence:
            return await replay_run(
                pool, asked, "self_consistency", params, equivalence, shuffle=shuffle, limits=limits
            )

    return run_virtually(run)


def calls_of(run: Replayed) -> list[CallFinished]:
    return [event for event in run.trace.events if isinstance(event, CallFinished)]


@settings(deadline=None)
@given(
    name=st.sampled_from("abc"),
    shuffle=st.none() | st.integers(0, 1000),
    n=st.integers(1, N),
    width=st.integers(1, N),
    stop=st.sampled_from(["adaptive", "lead", "none", "esc"]),
    budget=st.none() | st.integers(1, 80),
)
def test_a_vote_receives_each_sample_once_and_accounts_for_its_tokens(
    pool: Pool,
    name: str,
    shuffle: int | None,
    n: int,
    width: int,
    stop: str,
    budget: int | None,
) -> None:
    asked = pool.questions[name]
    limits = Limits() if budget is None else Limits(max_tokens=budget)
    run = replayed(pool, asked, shuffle, limits, n=n, width=width, stop=stop)
    texts = Counter(text for call in calls_of(run) for text in call.texts if text)
    kept = {sample.text: sample for sample in pool.samples.values() if sample.key == asked.key}
    finished = Counter(
        text
        for call in calls_of(run)
        for text, reason in zip(call.texts, call.finish_reasons, strict=True)
        if reason == "stop"
    )
    assert set(finished) <= set(kept)
    assert all(count == 1 for count in finished.values())
    assert sum(texts.values()) <= n
    spent = sum(call.usage.completion for call in calls_of(run))
    if budget is not None:
        assert spent <= budget
    if all(call.end == "finished" for call in calls_of(run)) and budget is None:
        assert spent == sum(kept[text].tokens for text in finished)


def test_replays_are_reproducible(pool: Pool) -> None:
    for name in "abc":
        first, second = (
            replayed(pool, pool.questions[name], 7, n=N, width=3, stop="adaptive") for _ in range(2)
        )
        assert first.outcome == second.outcome
        assert [repr(event) for event in first.trace.events] == [
            repr(event) for event in second.trace.events
        ]


def slowed(pool: Pool, first: float, last: Callable[[Sample], float]) -> Pool:
    """Return the same pool with other sample times."""
    slow = Pool(pool.path, pool.header)
    for each in pool.passes:
        slow.add(each, 0)
    for asked in pool.questions.values():
        slow.add(asked, 0)
    for sample in pool.samples.values():
        times = {"first_seconds": first, "seconds": last(sample)}
        slow.add(sample.model_copy(update=times), 0)
    return slow


def test_a_run_takes_the_recorded_virtual_time(pool: Pool) -> None:
    asked = pool.questions["a"]
    slow = slowed(pool, 100.0, lambda sample: 1000.0 + sample.index)
    together = replayed(slow, asked, n=N, stop="none")
    assert together.seconds == pytest.approx(1000.0 + N - 1)
    sequential = replayed(slow, asked, n=N, width=1, stop="lead")
    assert sequential.seconds == pytest.approx(sum(call.seconds for call in calls_of(sequential)))
    assert sequential.seconds >= 2000


def test_deadlines_use_virtual_time(pool: Pool) -> None:
    slow = slowed(pool, 1.0, lambda _: 50.0)
    run = replayed(slow, pool.questions["a"], limits=Limits(deadline_ms=10_000), n=2)
    assert run.seconds == pytest.approx(10.0)
    assert run.outcome is None


def test_a_strategy_that_needs_more_samples_fails(pool: Pool) -> None:
    run = replayed(pool, pool.questions["a"], n=N + 1, stop="none")
    assert run.outcome is None
    assert "no sample 6" in str(run.failure)


def test_comparisons_take_no_virtual_time() -> None:
    async def compare() -> float:
        times: list[float] = []

        async def tick() -> None:
            await anyio.sleep(3600)
            times.append(anyio.current_time())

        async with VirtualTimeEquivalence() as equivalence, anyio.create_task_group() as group:
            group.start_soon(tick)
            assert await equivalence.same(r"\frac{1}{2}", "0.5")
            compared_at = anyio.current_time()
        assert times == [3600]
        return compared_at

    assert run_virtually(compare) == 0.0
