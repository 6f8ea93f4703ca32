"""The verbs of a run, over the scripted engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.calls.admission import LimitedEngine
from secondpass.service.calls.retry import RetryingEngine
from secondpass.service.common.errors import DeadlinePassed, NothingWithinBudget
from secondpass.service.common.events import (
    AnswerDelta,
    CallDelta,
    CandidateSeen,
    Trace,
    VerdictSeen,
)
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine, tokens_of
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import Shared
from secondpass.service.runs.step_stream import LiveDraft
from secondpass.strategies import prompts
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import (
    BudgetExhausted,
    CapabilityMissing,
    EngineUnavailable,
    StreamCut,
    UnusableCompletion,
)
from secondpass.strategies.api.step_splitter import split_steps
from secondpass.strategies.api.values import SOLVE, Candidate, Sampling, Usage
from secondpass.strategies.continuation import segments
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    answers,
    assert_books_are_closed,
    bills,
    make_run,
    says,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def own_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that no strategy needs to have."""
    own = {"check": "Is {draft} right?", "is_right": "Is this right?"}
    monkeypatch.setattr(prompts, "PROMPTS", {**prompts.PROMPTS, **own})


async def test_the_first_call_sends_the_clients_messages_verbatim() -> None:
    engine = ScriptedEngine()
    run = make_run(engine, question="{braces} and {question}")
    await run.ask(SOLVE)
    assert engine.calls[0].messages == run.messages


async def test_an_explicit_task_adds_its_answer_format_to_the_question() -> None:
    engine = ScriptedEngine()
    task = Task(kind="choice", options=("red", "blue"))
    run = make_run(engine, question="Which?", task=task, task_is_explicit=True)
    await run.ask(SOLVE)
    (message,) = engine.calls[0].messages
    assert message.text.startswith("Which?\n\nA) red\nB) blue\n\nExactly one of the options A, B")


async def test_options_that_the_question_names_are_not_repeated() -> None:
    engine = ScriptedEngine()
    task = Task(kind="choice", options=("red", "blue"))
    run = make_run(engine, question="A: red, or B: blue?", task=task, task_is_explicit=True)
    await run.ask(SOLVE)
    assert engine.calls[0].messages[0].text.startswith("A: red, or B: blue?\n\nExactly one")


async def test_a_prompt_after_a_completion_is_a_further_turn_of_its_conversation() -> None:
    engine = ScriptedEngine(says("It is 42."))
    run = make_run(engine)
    draft = await run.ask(SOLVE)
    await run.ask("check", role="critic", after=draft, draft=draft.text)
    turns = [(message.role, message.text) for message in engine.calls[1].messages]
    assert turns == [
        ("user", run.question),
        ("assistant", "It is 42."),
        ("user", "Is It is 42. right?"),
    ]


async def test_the_clients_sampling_binds_the_actor_only() -> None:
    engine = ScriptedEngine()
    run = make_run(engine, sampling=Sampling(stop=("END",), max_tokens=30, top_p=0.5))
    await run.ask(SOLVE)
    await run.ask("check", role="critic", draft="x")
    actor, critic = (call.sampling for call in engine.calls)
    assert (actor.stop, actor.max_tokens, actor.top_p) == (("END",), 30, 0.5)
    assert (critic.stop, critic.max_tokens, critic.top_p) == (None, 256, None)


@ON_BOTH_BACKENDS
async def test_samples_that_can_stop_early_are_requests_of_their_own() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    async with run.sample(SOLVE, 6, width=2) as drafts:
        assert [draft.index async for draft in drafts] == [0, 1, 2, 3, 4, 5]
    assert [(call.n, call.index) for call in engine.calls] == [(1, i) for i in range(6)]


async def test_samples_that_cannot_stop_share_a_request() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    async with run.sample(SOLVE, 7, width=3, batch=3) as drafts:
        assert len([draft async for draft in drafts]) == 7
    assert [(call.n, call.index) for call in engine.calls] == [(3, 0), (3, 3), (1, 6)]


@ON_BOTH_BACKENDS
async def test_leaving_a_sample_cancels_what_is_still_written() -> None:
    engine = ScriptedEngine(_slow_after(1), per_token=0.002)
    run = make_run(engine)
    async with run.sample(SOLVE, 4) as drafts:
        async for _ in drafts:
            break
    assert_books_are_closed(run, engine)
    ends = sorted(bill.end for bill in bills(run))
    assert ends == ["cancelled"] * 3 + ["finished"]
    wasted = sum(bill.wasted for bill in bills(run))
    assert wasted == sum(b.usage.completion for b in bills(run) if b.end == "cancelled") > 0
    assert engine.delivered == run.budget.spent["tokens"]


def _slow_after(index: int) -> Callable[[Call, int], Reply]:
    return lambda _, i: Reply("word " * (3 if i < index else 300))


@ON_BOTH_BACKENDS
async def test_with_a_seed_samples_come_in_index_order_whichever_is_done_first() -> None:
    engine = ScriptedEngine(lambda _, i: Reply("word " * (40 - 10 * i)), per_token=0.001)
    for seed, expected in ((7, [0, 1, 2, 3]), (None, [3, 2, 1, 0])):
        run = make_run(engine, sampling=Sampling(seed=seed))
        async with run.sample(SOLVE, 4) as drafts:
            assert [draft.index async for draft in drafts] == expected


async def test_sample_i_is_drawn_with_the_seed_plus_i() -> None:
    engine = ScriptedEngine()
    run = make_run(engine, sampling=Sampling(seed=100))
    async with run.sample(SOLVE, 3) as drafts:
        [draft async for draft in drafts]
    assert {call.index: call.sampling.seed for call in engine.calls} == {0: 100, 1: 101, 2: 102}


async def test_extend_goes_on_token_by_token() -> None:
    engine = ScriptedEngine(says("one two three four five six"))
    run = make_run(engine)
    draft = await run.ask(SOLVE, max_tokens=3)
    assert (draft.text, draft.is_cut) == ("one two three", True)
    longer = await run.extend(draft)
    assert (longer.text, longer.is_cut) == ("one two three four five six", False)
    assert engine.calls[1].prefix == draft.token_ids
    assert longer.token_ids[:3] == draft.token_ids


async def test_extend_with_a_text_of_its_own() -> None:
    engine = ScriptedEngine(says("It is 42. Wait, it is 43."))
    run = make_run(engine)
    draft = await run.ask(SOLVE, max_tokens=3)
    longer = await run.extend(draft, text=" Wait,")
    assert longer.text == "It is 42. Wait, it is 43."


@pytest.mark.parametrize("text", ["", " Wait,"])
async def test_extending_what_was_finished_adds_nothing_but_a_text_must_be_gone_on_from(
    text: str,
) -> None:
    run = make_run(ScriptedEngine(says(f"one two three{text} ")))
    draft = await run.ask(SOLVE, max_tokens=3)
    assert draft.is_cut
    if text:
        with pytest.raises(UnusableCompletion):
            await run.extend(draft, text=text)
        return
    longer = await run.extend(draft)
    assert (longer.text, longer.is_cut) == ("one two three ", False)
    assert bills(run)[-1].end == "finished"


@ON_BOTH_BACKENDS
async def test_steps_come_as_they_are_finished_and_leaving_aborts_the_draft() -> None:
    engine = ScriptedEngine(says("First.\n\nSecond.\n\nThird. " + "word " * 500), per_token=0.002)
    run = make_run(engine)
    seen = []
    async with run.steps(SOLVE) as draft:
        async for step in draft:
            seen.append(step)
            if len(seen) == 2:
                break
        assert draft.completion.text.startswith("First.")
    assert seen == ["First.", "Second."]
    assert bills(run)[0].end == "cancelled"
    assert_books_are_closed(run, engine)


async def test_steps_give_the_last_one_too_and_then_the_whole_completion() -> None:
    run = make_run(ScriptedEngine(says("First.\n\nSecond \\boxed{2}.")))
    async with run.steps(SOLVE) as draft:
        assert [step async for step in draft] == ["First.", "Second \\boxed{2}."]
        assert run.candidate(draft).answer == "2"


async def test_a_draft_is_cut_after_a_step_and_gone_on_with_step_by_step() -> None:
    engine = ScriptedEngine(says("One.\n\nTwo.\n\nThree.\n\nFour \\boxed{4}."))
    run = make_run(engine)
    async with run.steps(SOLVE) as draft:
        async for step in draft:
            if step == "Two.":
                break
        cut = draft.cut(1)
        with pytest.raises(ValueError, match="0 to the"):
            draft.cut(9)
    assert (cut.text, cut.is_cut, len(cut.token_ids)) == ("One.", True, 1)
    async with run.extend_steps(cut, index=7) as longer:
        assert [step async for step in longer] == ["Two.", "Three.", "Four \\boxed{4}."]
        assert longer.cut(0) == cut
        assert longer.cut(2).text == "One.\n\nTwo.\n\nThree."
        assert len(longer.cut(2).token_ids) == 3
        whole = longer.completion
    assert (engine.calls[1].prefix, engine.calls[1].index) == (cut.token_ids, 7)
    assert whole.text == "One.\n\nTwo.\n\nThree.\n\nFour \\boxed{4}."
    assert run.candidate(whole).answer == "4"
    assert_books_are_closed(run, engine)


@settings(deadline=None, max_examples=50)
@given(
    pieces=st.lists(st.text("ab \n", min_size=1, max_size=4), min_size=1, max_size=20),
    has_ids=st.booleans(),
)
def test_a_cut_never_loses_or_splits_a_step(pieces: list[str], has_ids: bool) -> None:
    draft = LiveDraft(Call(role="actor", purpose=SOLVE, messages=(), resumable=True))

    class Pieces:
        async def perform(self, *_: object, on_delta: Callable[[Delta], None]) -> None:
            for number, piece in enumerate(pieces):
                ids = (number,) if has_ids else ()
                on_delta(Delta(text=piece, tokens=1, token_ids=ids))

    async def write() -> list[str]:
        with draft:
            await draft.write(Pieces())  # type: ignore[arg-type]
            return [step async for step in draft]

    steps = anyio.run(write)
    for count in range(len(steps) + 1):
        cut = draft.cut(count)
        assert split_steps(cut.text) == steps[:count]
        assert "".join(pieces).startswith(cut.text)
        held = "".join(p if isinstance(p, str) else pieces[p] for p in segments.pieces(cut))
        assert held == (cut.text if has_ids else "")


@ON_BOTH_BACKENDS
async def test_steps_raise_what_ended_the_draft() -> None:
    engine = ScriptedEngine(lambda *_: Reply("One.\n\nTwo. three four five", fault="cut"))
    run = make_run(engine)
    seen: list[str] = []

    async def read() -> None:
        async with run.steps(SOLVE) as draft:
            async for step in draft:
                seen.append(step)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(StreamCut):
        await read()
    assert seen == ["One."]
    assert_books_are_closed(run, engine)


async def test_a_probe_is_a_further_turn_of_the_draft_and_reads_normalised_labels() -> None:
    engine = ScriptedEngine(lambda *_: Reply("So 42.", labels={"yes": 0.6, "no": 0.2}))
    run = make_run(engine)
    draft = await run.ask(SOLVE)
    read = await run.probe(draft, "is_right", ("yes", "no"))
    assert read.probabilities == {"yes": pytest.approx(0.75), "no": pytest.approx(0.25)}
    assert read.mass == pytest.approx(0.8)
    assert read.expect({"yes": 1.0, "no": 0.0}) == pytest.approx(0.75)
    call = engine.calls[1]
    assert call.labels == ("yes", "no")
    assert call.thinking is False
    assert [m.role for m in call.messages] == ["user", "assistant", "user"]
    assert any(isinstance(event, VerdictSeen) for event in run.trace.events)


async def test_labels_are_read_in_a_conversation_of_their_own() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    await run.labels("is_right", ("yes", "no"))
    assert [m.text for m in engine.calls[0].messages] == ["Is this right?"]


async def test_labels_without_any_probability_are_no_verdict() -> None:
    run = make_run(ScriptedEngine(lambda *_: Reply("x", labels={})))
    with pytest.raises(UnusableCompletion):
        await run.labels("is_right", ("yes", "no"))


async def test_a_missing_capability_is_named_and_nothing_is_sent() -> None:
    engine = ScriptedEngine(lacking=frozenset({"labels"}))
    run = make_run(engine)
    with pytest.raises(CapabilityMissing, match=r"'scripted'.*labels"):
        await run.labels("is_right", ("yes", "no"))
    assert not engine.calls


async def test_same_compares_as_the_task_does() -> None:
    run = make_run()
    assert await run.same("1,000", "1000.0")
    assert not await run.same("41", "42")
    choice = make_run(task=Task(kind="choice", options=("red", "blue")))
    assert await choice.same("a", "A")


async def test_equal_answers_have_one_class_and_open_texts_have_none() -> None:
    run = make_run()
    found = [
        await run.class_of(Candidate(text="", answer=answer))
        for answer in ("7", "8", "7.0", None, "8")
    ]
    assert found == [0, 1, 0, None, 1]
    assert await make_run(task=Task(kind="open")).class_of(Candidate(text="x", answer="x")) is None


@ON_BOTH_BACKENDS
async def test_map_keeps_the_order_of_its_items_and_outlives_a_failure() -> None:
    run = make_run()

    async def work(item: int) -> int:
        await anyio.sleep(0.01 * (3 - item))
        if item == 1:
            raise EngineUnavailable("gone")
        return item * 10

    assert await run.map(work, range(4)) == [0, 20, 30]


@ON_BOTH_BACKENDS
async def test_map_raises_when_everything_failed() -> None:
    async def work(_: int) -> int:
        raise EngineUnavailable("gone")

    with pytest.raises(EngineUnavailable, match="gone"):
        await make_run().map(work, range(3))


@ON_BOTH_BACKENDS
async def test_an_error_that_is_nobodys_failure_ends_the_block() -> None:
    async def work(item: int) -> int:
        if item:
            raise ZeroDivisionError
        await anyio.sleep_forever()
        return item

    with pytest.raises(ZeroDivisionError):
        async with make_run().as_completed(work, range(2)) as finished:
            [result async for result in finished]


@given(width=st.integers(1, 5), items=st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_never_more_than_width_at_once(width: int, items: int) -> None:
    async def main() -> None:
        run, running, most = make_run(), 0, 0

        async def work(item: int) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await anyio.lowlevel.checkpoint()
            running -= 1
            return item

        async with run.as_completed(work, range(items), width=width) as finished:
            assert sorted([item async for item in finished]) == list(range(items))
        assert most <= width

    anyio.run(main)


async def test_propose_keeps_the_highest_score_and_the_earlier_of_equals() -> None:
    run = make_run()
    for text, score in (("a", None), ("b", 0.2), ("c", 0.7), ("d", 0.7), ("e", None), ("f", 0.1)):
        run.propose(Candidate(text=text, score=score))
    assert run.best.text == "c"
    leading = [e.is_best for e in run.trace.events if isinstance(e, CandidateSeen)]
    assert leading == [True, True, True, False, False, False]


async def test_elect_replaces_whatever_led() -> None:
    run = make_run()
    run.elect(Candidate(text="a", score=0.9))
    run.elect(Candidate(text="b", score=0.5))
    assert run.best.text == "b"


async def test_what_was_reserved_is_there_for_the_closing_call() -> None:
    engine = ScriptedEngine(says("word " * 50))
    run = make_run(engine, max_tokens=60)
    with run.reserve(tokens=20) as reserved:
        with pytest.raises(BudgetExhausted):
            await run.ask(SOLVE)
        last = await run.ask(SOLVE, reserved=reserved)
    assert len(tokens_of(last.text)) == 20
    assert_books_are_closed(run, engine)


async def test_a_draft_that_the_budget_cut_serves_if_it_held_its_answer() -> None:
    engine = ScriptedEngine(says("It is \\boxed{42}. " + "More words. " * 50))
    run = make_run(engine, "self_consistency", {"n": 2}, max_tokens=12)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("42", "budget_tokens")
    assert outcome.candidate.finish_reason == "length"


async def test_a_draft_that_the_budget_cut_before_its_answer_is_none() -> None:
    engine = ScriptedEngine(says("word " * 50))
    run = make_run(engine, "self_consistency", {"n": 2}, max_tokens=5)
    with pytest.raises(NothingWithinBudget) as error:
        await execute(run)
    assert error.value.kind == "tokens"
    assert bills(run)[0].wasted == 5


async def test_a_draft_that_the_client_capped_is_a_candidate_without_an_answer() -> None:
    engine = ScriptedEngine(says("word " * 50))
    run = make_run(engine, "self_consistency", {"n": 2}, sampling=Sampling(max_tokens=5))
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.candidate.finish_reason) == (None, "length")


@ON_BOTH_BACKENDS
async def test_a_draft_that_the_deadline_cut_serves_if_it_held_its_answer() -> None:
    engine = ScriptedEngine(says("It is \\boxed{42}. " + "More words. " * 500), per_token=0.005)
    run = make_run(engine, "self_consistency", {"n": 2}, deadline_ms=100)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("42", "deadline")
    assert_books_are_closed(run, engine)


async def test_a_streamed_text_is_the_answer_as_far_as_it_went() -> None:
    engine = ScriptedEngine(says("word " * 200), per_token=0.002)
    run = make_run(engine, "single", is_streamed=True, deadline_ms=60)
    outcome = await execute(run)
    streamed = "".join(e.text for e in run.trace.events if isinstance(e, AnswerDelta))
    assert outcome.candidate.text == streamed
    assert (outcome.candidate.finish_reason, outcome.candidate.answer) == ("length", None)


@pytest.mark.parametrize("limit", [{"max_tokens": 5}, {"deadline_ms": 60}])
async def test_a_text_that_nobody_read_and_that_was_cut_is_no_answer(limit: dict[str, Any]) -> None:
    engine = ScriptedEngine(says("word " * 200), per_token=0.005)
    with pytest.raises((NothingWithinBudget, DeadlinePassed)):
        await execute(make_run(engine, "single", **limit))


async def test_a_text_that_nobody_read_is_written_anew_when_its_stream_breaks() -> None:
    first = iter(["cut"])
    engine = ScriptedEngine(
        lambda *_: Reply("one two three four", fault=next(first, None)),  # type: ignore[arg-type]
        lacking=frozenset({"prefix"}),
    )
    run = make_run(RetryingEngine(engine, first_pause=0.001), "single")
    assert (await execute(run)).candidate.text == "one two three four"


async def test_a_selecting_strategy_sends_the_chosen_text_at_once() -> None:
    run = make_run(ScriptedEngine(answers("1", "1", "1", "1")), "self_consistency")
    outcome = await execute(run)
    sent = [e.text for e in run.trace.events if isinstance(e, AnswerDelta)]
    assert sent == [outcome.candidate.text]


@ON_BOTH_BACKENDS
async def test_a_decided_vote_stops_and_says_what_that_saved() -> None:
    engine = ScriptedEngine(answers("42"), per_token=0.001)
    run = make_run(engine, "self_consistency", {"n": 20, "width": 4})
    outcome = await execute(run)
    assert outcome.stop_reason == "consensus"
    assert outcome.confidence == 1.0
    assert outcome.confidence_kind == "vote_share"
    assert outcome.saved is not None
    assert outcome.saved.samples == 20 - len([b for b in bills(run) if b.end == "finished"]) >= 12
    assert outcome.saved.tokens > 0
    assert_books_are_closed(run, engine)


async def test_samples_that_were_finished_are_not_saved_although_nobody_counted_them() -> None:
    run = make_run(ScriptedEngine(answers("42")), "self_consistency", {"n": 8, "width": 8})
    outcome = await execute(run)
    finished = sum(bill.end == "finished" for bill in bills(run))
    assert (outcome.saved.samples if outcome.saved else 0) == 8 - finished


@ON_BOTH_BACKENDS
async def test_a_cancelled_draft_is_wasted_even_if_it_held_an_answer() -> None:
    def script(_: Call, index: int) -> Reply:
        return Reply("\\boxed{1} " + "word " * (2 if index < 4 else 300))

    run = make_run(ScriptedEngine(script, per_token=0.002), "self_consistency", {"width": 8})
    outcome = await execute(run)
    cancelled = [bill for bill in bills(run) if bill.end == "cancelled"]
    assert outcome.stop_reason == "consensus"
    assert cancelled
    assert all(bill.wasted == bill.usage.completion > 0 for bill in cancelled)


@pytest.mark.parametrize("stop", ["esc", "none", "adaptive", "lead"])
@ON_BOTH_BACKENDS
async def test_never_more_samples_at_once_than_the_width(stop: str) -> None:
    engine = ScriptedEngine(per_token=0.001)
    params = {"n": 9, "width": 2, "stop": stop} | ({"window": 3} if stop == "esc" else {})
    run = make_run(engine, "self_consistency", params)
    most = 0

    def watch(_: object) -> None:
        nonlocal most
        most = max(most, sum(call.n for call in engine.running.values()))

    run.trace.subscribe(watch)
    await execute(run)
    assert most <= 2
    assert all(call.n <= 2 for call in engine.calls)


async def test_every_candidate_is_reported_once_and_the_winner_with_its_share() -> None:
    run = make_run(
        ScriptedEngine(answers("1", "2", "1", "3")), "self_consistency", {"n": 4, "stop": "none"}
    )
    outcome = await execute(run)
    listed = {candidate.index: candidate for candidate in outcome.candidates}
    assert [listed[i].answer for i in range(4)] == ["1", "2", "1", "3"]
    assert listed[0] == outcome.candidate
    assert listed[0].score == 0.5
    seen = [event for event in run.trace.events if isinstance(event, CandidateSeen)]
    assert [event.is_best for event in seen] == [False, True, False, False, False]


@ON_BOTH_BACKENDS
async def test_a_call_that_never_left_the_queue_is_not_billed() -> None:
    engine = ScriptedEngine(says("word " * 300), per_token=0.005)
    run = make_run(
        LimitedEngine(engine, 1),
        "self_consistency",
        {"n": 8, "width": 8, "stop": "lead"},
        deadline_ms=150,
    )
    with pytest.raises(DeadlinePassed):
        await execute(run)
    assert len(engine.calls) == run.budget.spent["calls"] == run.budget.spent["samples"] == 1
    queued = [bill for bill in bills(run) if not bill.attempts]
    assert len(queued) == 7
    assert all(bill.usage == Usage() and not bill.is_estimated for bill in queued)
    assert all(bill.queued > 0.1 > bill.seconds for bill in queued)
    assert_books_are_closed(run, engine)


async def test_what_the_context_window_ends_is_not_the_budgets_doing() -> None:
    engine = ScriptedEngine(says("word " * 500), window=60)
    run = make_run(engine, "single", sampling=Sampling(max_tokens=5000), max_tokens=4096)
    outcome = await execute(run)
    assert (outcome.stop_reason, outcome.candidate.finish_reason) == ("finished", "length")


async def test_a_cold_process_answers_as_a_warm_one_does() -> None:
    shared = Shared(Equivalence())
    outcomes = []
    for _ in range(2):
        engine = ScriptedEngine(answers("1", "2", "2"))
        run = make_run(
            engine,
            "self_consistency",
            {"n": 3, "stop": "none", "width": 1},
            shared=shared,
            max_tokens=200,
        )
        outcomes.append(await execute(run))
    assert [o.candidate.answer for o in outcomes] == ["2", "2"]
    assert [o.stop_reason for o in outcomes] == ["finished", "finished"]


@ON_BOTH_BACKENDS
async def test_lanes_wait_for_the_first_call_of_a_cold_process() -> None:
    engine = ScriptedEngine(answers("1", "2", "2"), per_token=0.001)
    run = make_run(engine, "self_consistency", {"n": 3, "stop": "lead", "width": 3}, max_tokens=100)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.usage["actor"].calls) == ("2", 3)


async def test_failed_calls_that_were_survived_are_counted_by_role() -> None:
    engine = ScriptedEngine(
        lambda _, i: Reply("\\boxed{1}", fault="refuse" if i in (1, 2) else None)
    )
    run = make_run(engine, "self_consistency", {"n": 5, "stop": "lead", "width": 5})
    outcome = await execute(run)
    assert outcome.degraded == {"actor": 2}
    assert outcome.candidate.answer == "1"


async def test_a_retried_attempt_is_billed_and_wasted() -> None:
    first = iter(["cut"])
    engine = ScriptedEngine(lambda *_: Reply("one two three four", fault=next(first, None)))  # type: ignore[arg-type]
    run = make_run(RetryingEngine(engine, first_pause=0.001), "self_consistency", {"n": 1})
    outcome = await execute(run)
    assert outcome.usage["actor"].calls == 2
    assert outcome.usage["actor"].completion == 6
    assert outcome.usage["actor"].wasted == 2
    assert outcome.degraded is None
    assert_books_are_closed(run, engine)


async def test_a_visible_call_that_breaks_goes_on_where_it_was() -> None:
    first = iter(["cut"])
    engine = ScriptedEngine(lambda *_: Reply("one two three four", fault=next(first, None)))  # type: ignore[arg-type]
    run = make_run(RetryingEngine(engine, first_pause=0.001), "single", is_streamed=True)
    outcome = await execute(run)
    streamed = "".join(e.text for e in run.trace.events if isinstance(e, AnswerDelta))
    assert outcome.candidate.text == streamed == "one two three four"
    assert outcome.usage["actor"].wasted == 0
    assert_books_are_closed(run, engine)


async def test_time_is_told_apart_by_where_it_went() -> None:
    engine = ScriptedEngine(says("one two three"), first_token=0.05, per_token=0.01)
    outcome = await execute(make_run(engine, "self_consistency", {"n": 3, "stop": "none"}))
    assert 80 <= outcome.timing.engine <= outcome.timing.total
    assert outcome.timing.queue == 0
    assert outcome.timing.orchestration < 40


async def test_deltas_are_recorded_only_where_they_are_wanted() -> None:
    for wanted in (True, False):
        run = make_run(trace=Trace(keeps_deltas=wanted))
        await execute(run)
        assert any(isinstance(e, CallDelta) for e in run.trace.events) is wanted


@ON_BOTH_BACKENDS
async def test_a_subscriber_hears_everything_however_late_it_comes() -> None:
    run = make_run()
    heard: list[object] = []
    await run.ask(SOLVE)
    run.trace.subscribe(heard.append)
    await run.ask(SOLVE)
    assert heard == run.trace.events


async def test_unread_deltas_are_gathered_when_tokens_come_fast() -> None:
    run: LiveRun = make_run(ScriptedEngine(answers("1")), is_streamed=True)
    run._pace.interval = 16
    async with run.sample(SOLVE, 1) as drafts:
        [draft async for draft in drafts]
    await run.ask(SOLVE, visible=True)
    engine = run.job.engines["actor"]
    assert isinstance(engine, ScriptedEngine)
    assert [call.stream_interval for call in engine.calls] == [16, 1]
