"""Calls over an engine whose every request follows a plan, as the tests of attempts need them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from secondpass.service.calls.admission import Admission
from secondpass.service.calls.budget import Budget, Need
from secondpass.service.calls.dispatch import Calls
from secondpass.service.calls.length_stats import Lengths, Pace
from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.calls.retry import RetryPolicy
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.errors import NoAnswer
from secondpass.service.common.events import CallFinished, Trace
from secondpass.service.common.limits import Limits
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import SecondpassError, StreamInterrupted
from secondpass.strategies.api.values import Completion, Message, Role, Sampling, Usage

CALL = Call(
    role="actor",
    purpose="solve",
    messages=(Message(role="user", content="What is 6 x 7?"),),
    sampling=Sampling(max_tokens=20),
)
VISIBLE = replace(CALL, visible=True)
WORDS = ("one", " two", " three", " four")

Plan = Callable[[Call, int], Iterable[Delta | Exception]]
"""(request, its number) -> what the engine yields, and where it fails."""


@dataclass
class PlannedEngine(ScriptedEngine):
    """Follows `plan`; `written` counts the tokens that left it, `closed` the streams that ended."""

    plan: Plan = lambda _call, _number: ()
    written: int = field(default=0, init=False)
    closed: int = field(default=0, init=False)

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        number = len(self.calls)
        self.calls.append(call)
        try:
            for each in self.plan(call, number):
                await anyio.lowlevel.checkpoint()
                if isinstance(each, Exception):
                    raise each
                self.written += each.tokens
                yield each
        finally:
            self.closed += 1


def counting(
    cuts: Sequence[int | None] = (),
    failure: Callable[[], SecondpassError] = lambda: StreamInterrupted("interrupted"),
    change: Callable[[Delta], Delta] = lambda delta: delta,
) -> Plan:
    """WORDS token by token, with the ids 0 to 3, after a prefix of ids; request i fails after `cuts[i]` of its deltas."""

    def plan(call: Call, number: int) -> Iterable[Delta | Exception]:
        cut = cuts[number] if number < len(cuts) else None
        held = len(call.prefix) if isinstance(call.prefix, tuple) else 0
        ids = list(range(held, len(WORDS)))[: call.sampling.max_tokens]
        for position, token in enumerate(ids):
            if position == cut:
                yield failure()
            reason: Any = None
            if position + 1 == len(ids):
                reason = "length" if token + 1 < len(WORDS) else "stop"
            yield change(
                Delta(
                    text=WORDS[token],
                    tokens=1,
                    token_ids=(token,),
                    finish_reason=reason,
                    usage=Usage(prompt=10 + held, completion=position + 1),
                )
            )
        if cut is not None:
            yield failure()

    return plan


@dataclass
class Books:
    """One run's calls over `engine`, and everything that they report."""

    engine: ScriptedEngine
    limits: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 3
    places: int | None = None
    usable: Callable[[Completion], bool] = lambda _: False
    done: list[Completion] = field(default_factory=list)
    seen: list[tuple[Delta, PartialCompletion]] = field(default_factory=list)
    salvaged: list[Completion] = field(default_factory=list)
    failures: list[SecondpassError] = field(default_factory=list)

    def __post_init__(self) -> None:
        policy = RetryPolicy(attempts=self.attempts, first_pause=0.001)
        self.upstream = Upstream(self.engine, Admission(self.places), policy)
        self.budget = Budget(Limits(**self.limits))
        self.trace = Trace()
        self.lengths = Lengths()
        roles: tuple[Role, ...] = ("actor", "judge", "reward")
        self.calls = Calls(
            dict.fromkeys(roles, self.upstream),
            {},
            self.budget,
            self.trace,
            self.lengths,
            Pace(),
            strategy="test",
            is_usable=lambda _, completion: self.usable(completion),
            salvage=self._salvage,
            count_failure=self.failures.append,
        )

    def _salvage(self, completion: Completion) -> bool:
        self.salvaged.append(completion)
        return True

    async def perform(self, call: Call = CALL, **how: Any) -> None:
        """Make the call; its completions are in `done`, its deltas in `seen`."""
        await self.calls.perform(
            call, self.done.append, on_delta=lambda *each: self.seen.append(each), **how
        )

    @property
    def bills(self) -> list[CallFinished]:
        """One for each attempt."""
        return [event for event in self.trace.events if isinstance(event, CallFinished)]

    @property
    def texts(self) -> list[str]:
        """Of the completions that were handed over."""
        return [completion.text for completion in self.done]

    @property
    def wasted(self) -> int:
        """Tokens of all roles."""
        return sum(self.calls.waste.wasted().values())

    def assert_closed(self) -> None:
        """Assert that nothing is held, and that the bills agree with the budget and with the engine."""
        assert not self.budget.holdings
        assert (self.upstream.admission.in_flight, self.upstream.admission.waiting) == (0, 0)
        spent = self.budget.spent
        assert spent["tokens"] == sum(bill.usage.completion for bill in self.bills)
        assert spent["prompt_tokens"] == sum(bill.usage.prompt for bill in self.bills)
        assert spent["calls"] == sum(bill.attempts for bill in self.bills) == len(self.engine.calls)
        assert 0 <= self.wasted <= spent["tokens"]


def need(expected: int, cap: int = 1000, n: int = 1, **more: object) -> Need:
    return Need(prompt_tokens=0, cap=cap, expected=lambda: expected, n=n, **more)  # type: ignore[arg-type]


async def settle(run: LiveRun) -> None:
    """Execute the run to whatever end."""
    with suppress(NoAnswer):
        await execute(run)
