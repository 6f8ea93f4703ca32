"""Test harness for engine calls: an engine with planned replies and a recorder of results."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from secondpass.service.calls.admission import Admission
from secondpass.service.calls.budget import Budget
from secondpass.service.calls.dispatch import CallDispatcher
from secondpass.service.calls.lease_request import LeaseRequest
from secondpass.service.calls.length_stats import CallStats
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
from secondpass.strategies.api.values import Completion, Message, ReportedUsage, Role, Sampling

CALL = Call(
    role="actor",
    purpose="solve",
    messages=(Message(role="user", content="What is 6 x 7?"),),
    sampling=Sampling(max_tokens=20),
)
VISIBLE = replace(CALL, visible=True)
WORDS = ("one", " two", " three", " four")

Plan = Callable[[Call, int], Iterable[Delta | Exception]]
"""(request, its number) -> deltas that the engine yields, or errors that it raises."""


@dataclass
class PlannedEngine(ScriptedEngine):
    """Replies according to `plan`. `generated` counts the tokens sent, `closed` the streams that ended."""

    plan: Plan = lambda _call, _number: ()
    generated: int = field(default=0, init=False)
    closed: int = field(default=0, init=False)

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        number = len(self.calls)
        self.calls.append(call)
        try:
            for each in self.plan(call, number):
                await anyio.lowlevel.checkpoint()
                if isinstance(each, Exception):
                    raise each
                self.generated += each.tokens
                yield each
        finally:
            self.closed += 1


def counting(
    failing_after: Sequence[int | None] = (),
    failure: Callable[[], SecondpassError] = lambda: StreamInterrupted("interrupted"),
    change: Callable[[Delta], Delta] = lambda delta: delta,
) -> Plan:
    """Return a plan that continues any prefix of WORDS, one token per delta, with ids 0 to 3.

    Request i fails after `failing_after[i]` deltas.
    """

    def plan(call: Call, number: int) -> Iterable[Delta | Exception]:
        last = failing_after[number] if number < len(failing_after) else None
        start = len(call.prefix) if isinstance(call.prefix, tuple) else 0
        ids = list(range(start, len(WORDS)))[: call.sampling.max_tokens]
        for position, token in enumerate(ids):
            if position == last:
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
                    usage=ReportedUsage(prompt=10 + start, completion=position + 1),
                )
            )
        if last is not None:
            yield failure()

    return plan


@dataclass
class CallHarness:
    """`CallDispatcher` over one engine, with everything that they report."""

    engine: ScriptedEngine
    limits: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 3
    slots: int | None = None
    is_usable: Callable[[Completion], bool] = lambda _: False
    completions: list[Completion] = field(default_factory=list)
    deltas: list[tuple[Delta, PartialCompletion]] = field(default_factory=list)
    salvaged: list[Completion] = field(default_factory=list)
    failures: list[SecondpassError] = field(default_factory=list)

    def __post_init__(self) -> None:
        policy = RetryPolicy(attempts=self.attempts, initial_backoff=0.001)
        self.upstream = Upstream(self.engine, Admission(self.slots), policy)
        self.budget = Budget(Limits(**self.limits))
        self.trace = Trace()
        self.stats = CallStats()
        roles: tuple[Role, ...] = ("actor", "judge", "reward")
        self.calls = CallDispatcher(
            dict.fromkeys(roles, self.upstream),
            {},
            self.budget,
            self.trace,
            self.stats,
            strategy="test",
            is_usable=lambda _, completion: self.is_usable(completion),
            salvage=self._salvage,
            count_failure=self.failures.append,
        )

    def _salvage(self, completion: Completion) -> bool:
        self.salvaged.append(completion)
        return True

    async def perform(self, call: Call = CALL, **options: Any) -> None:
        """Make the call and record its `completions` and `deltas`."""
        await self.calls.perform(
            call,
            self.completions.append,
            on_delta=lambda *each: self.deltas.append(each),
            **options,
        )

    @property
    def records(self) -> list[CallFinished]:
        """Usage records, one per attempt."""
        return [event for event in self.trace.events if isinstance(event, CallFinished)]

    @property
    def texts(self) -> list[str]:
        """Texts of the completions that were handed over."""
        return [completion.text for completion in self.completions]

    @property
    def wasted(self) -> int:
        """Wasted tokens of all roles."""
        return sum(self.calls.waste.wasted().values())

    def assert_consistent(self) -> None:
        """Assert that nothing is leased and that usage records, budget and engine agree."""
        assert not self.budget.holdings
        assert (self.upstream.admission.in_flight, self.upstream.admission.waiting) == (0, 0)
        spent = self.budget.spent
        assert spent["tokens"] == sum(record.usage.completion for record in self.records)
        assert spent["prompt_tokens"] == sum(record.usage.prompt for record in self.records)
        assert (
            spent["calls"]
            == sum(record.attempts for record in self.records)
            == len(self.engine.calls)
        )
        assert 0 <= self.wasted <= spent["tokens"]


def lease_request(expected: int, cap: int = 1000, n: int = 1, **more: object) -> LeaseRequest:
    return LeaseRequest(prompt_tokens=0, cap=cap, expected=lambda: expected, n=n, **more)  # type: ignore[arg-type]


async def settle(run: LiveRun) -> None:
    """Execute the run to its end, with or without an answer."""
    with suppress(NoAnswer):
        await execute(run)
