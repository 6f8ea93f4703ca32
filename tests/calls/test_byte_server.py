"""Stateful property test: invariants of runs against a server with arbitrary, possibly broken replies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.run_spec import SharedResources
from tests.calls.accounting.byte_accounting import check_accounting
from tests.calls.byte_runs import SEED, Bench, Request
from tests.calls.byte_script import (
    DIALECTS,
    PLACES,
    SHAPES,
    Break,
    Finish,
    Noise,
    Script,
    Stall,
    Step,
    Text,
    Trouble,
)

OPENINGS = ("stream",) * 9 + ("drop", "no stream", "garbled head", 400, 429, 500, 503)
REASONS = ("stop", "stop", "stop", "length", "tool_calls", "content_filter")
TROUBLES: tuple[Trouble, ...] = (
    "end",
    "inside an event",
    "error 400",
    "error 429",
    "error 500",
    "garbage reason",
    "failed reason",
    "index out of range",
    "delta after its end",
    "no JSON",
    "no index",
)
MOSTLY = st.sampled_from([True, True, True, False])
SCRIPTS = st.builds(
    Script,
    steps=st.just(()),
    opening=st.sampled_from(OPENINGS),
    write_sizes=st.lists(st.integers(1, 400), max_size=3).map(tuple),
    at_once=st.booleans(),
    is_chunked=MOSTLY,
    obeys=MOSTLY,
    running=MOSTLY,
    final=MOSTLY,
    place=st.sampled_from(["last", "last", *PLACES]),
    shape=st.sampled_from(["whole", "whole", "whole", *SHAPES]),
    done=MOSTLY,
    completes=MOSTLY,
    late=st.none() | st.sampled_from(TROUBLES),
)
SMALL = st.integers(1, 7)
VOTES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(dict, n=SMALL, stop=st.just("none"), width=st.none() | SMALL),
    st.builds(dict, n=SMALL, stop=st.just("esc"), window=st.integers(2, 4)),
    st.builds(dict, n=SMALL, stop=st.sampled_from(["adaptive", "lead"]), width=SMALL),
)
TOKENS = st.integers(1, 300) | st.integers(1, 30)
LIMITS: st.SearchStrategy[dict[str, int]] = st.one_of(
    st.just({}),
    st.builds(dict, max_tokens=TOKENS),
    st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": TOKENS,
            "max_prompt_tokens": st.integers(1, 400),
            "max_calls": st.integers(1, 6),
            "max_samples": st.integers(1, 8),
            "max_cost": st.integers(1, 1200).map(lambda millionths: millionths / 1e6),
        },
    ),
)


def requests(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[Request]:
    """Requests with varying seeds, caps and limits, plus the fields in `more`."""
    return st.builds(
        Request,
        seed=st.none() | st.just(SEED),
        cap=st.none() | st.integers(1, 40),
        limits=LIMITS,
        tokenize_failures=st.sampled_from([0, 0, 1, 2]),
        disconnects_after=st.none() | st.none() | st.integers(0, 12),
        **more,
    )


VOTING = requests(params=VOTES, dialect=st.sampled_from(DIALECTS))
SINGLE = requests(
    params=st.none(),
    dialect=st.sampled_from(["vllm", "vllm", *DIALECTS]),
    is_streamed=st.sampled_from([True, True, False]),
)


class Machine(RuleBasedStateMachine):
    """Builds the scripts of the next replies event by event and makes requests in between."""

    bench: Bench

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[Script] = []
        self.shared = SharedResources(Equivalence())

    @rule(script=SCRIPTS)
    def new_script(self, script: Script) -> None:
        self.scripts.append(script)

    @rule(
        choice=st.integers(0, 5),
        tokens=st.integers(1, 40),
        answer=st.none() | st.integers(1, 2),
        is_reasoning=st.sampled_from([False, False, False, True]),
    )
    def text(self, choice: int, tokens: int, answer: int | None, *, is_reasoning: bool) -> None:
        self.add(Text(choice, tokens, answer, is_reasoning))

    @rule(choice=st.integers(0, 5), answer=st.integers(1, 2), reason=st.sampled_from(REASONS))
    def answer(self, choice: int, answer: int, reason: str) -> None:
        self.add(Text(choice, 3, answer), Finish(choice, reason))

    @rule(choice=st.integers(0, 5), reason=st.sampled_from(REASONS), tokens=st.integers(0, 3))
    def finish(self, choice: int, reason: str, tokens: int) -> None:
        self.add(Finish(choice, reason, tokens))

    @rule(
        trouble=st.sampled_from(TROUBLES),
        choice=st.integers(0, 5),
        deltas=st.integers(0, 2),
        has_reasoning=st.sampled_from([False, False, True]),
    )
    def interrupt(self, trouble: Trouble, choice: int, deltas: int, *, has_reasoning: bool) -> None:
        if has_reasoning:
            self.add(Text(choice, 2, is_reasoning=True))
        self.add(*[Text(choice, 2)] * deltas, Break(trouble))

    @rule(
        choice=st.integers(0, 5),
        deltas=st.integers(1, 5),
        tokens=st.integers(10, 40),
        obeys=st.sampled_from([False, False, True]),
        is_finished=st.booleans(),
    )
    def generate_much(
        self, choice: int, deltas: int, tokens: int, *, obeys: bool, is_finished: bool
    ) -> None:
        """Generate more tokens than a small limit has room for, from a server that may ignore its cap."""
        self.scripts.append(Script(obeys=obeys))
        self.add(*[Text(choice, tokens, 1)] * deltas, *[Finish(choice)] * is_finished)

    @rule(noise=st.builds(Noise, st.sampled_from(["comment", "role", "no choices", "null usage"])))
    def send_noise(self, noise: Noise) -> None:
        self.add(noise)

    @rule()
    def stall(self) -> None:
        self.add(Stall())

    @rule(request=VOTING | SINGLE)
    def request(self, request: Request) -> None:
        scripts, self.scripts = self.scripts, []
        served = self.bench.serve(request, scripts, self.shared)
        served.check()
        check_accounting(served)

    def add(self, *steps: Step) -> None:
        if not self.scripts:
            self.scripts.append(Script())
        self.scripts[-1] = replace(self.scripts[-1], steps=(*self.scripts[-1].steps, *steps))

    def teardown(self) -> None:
        if self.scripts:
            self.request(Request())


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


@pytest.mark.parametrize("examples", [50, pytest.param(500, marks=pytest.mark.compat)])
def test_votes_and_usage_are_right_for_arbitrary_replies(bench: Bench, examples: int) -> None:
    class BenchMachine(Machine):
        pass

    BenchMachine.bench = bench
    run_state_machine_as_test(BenchMachine, settings=settings(max_examples=examples))


def test_final_usage_is_charged_for_a_reply_with_missing_completions(bench: Bench) -> None:
    steps = (Text(0, 3, 1), Finish(0), Text(0, 4))
    served = bench.serve(
        Request({"n": 3, "stop": "none"}, "final"),
        [Script(steps, completes=False)],
        SharedResources(Equivalence()),
    )
    broken, rest = served.records
    assert (broken.end, broken.is_estimated, broken.usage.completion) == ("failed", False, 7)
    assert (rest.end, rest.is_estimated, rest.usage.completion) == ("finished", False, 2)
    served.check()
