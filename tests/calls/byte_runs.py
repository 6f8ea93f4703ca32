"""Runs over the byte server, and the invariants that hold for each of them."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self
from unittest.mock import patch

import anyio

from secondpass.service.calls.admission import Admission
from secondpass.service.calls.retry import RetryPolicy
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.errors import NoAnswer
from secondpass.service.common.events import AnswerDelta, CallFinished
from secondpass.service.common.limits import Price
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import SharedResources
from secondpass.strategies.api.errors import CallRejected
from secondpass.strategies.api.values import Completion, Sampling
from secondpass.testing.support import call_records, make_run
from tests.calls.byte_script import DIALECTS, Attempt, Choice, Dialect, Script, Text
from tests.calls.byte_server import ByteServer

ATTEMPTS = 3
SEED = 7
PRICE = Price(prompt=1.0, completion=3.0)
RETRIED = ("end", "inside an event", "error 429", "error 500", "garbage reason", "failed reason")
ORIGIN = re.compile(r"⟨(\d+)\.(\d+)\.\d+⟩")


@dataclass(frozen=True)
class Request:
    """Request of one run, with `params` of self_consistency; None uses the strategy `single`.

    The client disconnects after `disconnects_after` events of replies.
    """

    params: Mapping[str, Any] | None = field(default_factory=lambda: {"n": 5, "stop": "none"})
    dialect: Dialect = "final"
    seed: int | None = None
    cap: int | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    is_streamed: bool = False
    tokenize_failures: int = 0
    disconnects_after: int | None = None

    @property
    def n(self) -> int:
        return 1 if self.params is None else self.params["n"]

    @property
    def is_visible(self) -> bool:
        return self.params is None and self.is_streamed


_SHOWS_COUNTS = Script(steps=(Text(), Text(), Text(1), Text(1)))
"""Reply to a probe; its completions grow in several deltas."""


class Bench:
    """Byte server with one engine per dialect, on one event loop."""

    def __init__(self) -> None:
        self.server = ByteServer()
        self.upstreams: dict[Dialect, Upstream] = {}
        self._runner = asyncio.Runner()
        self._serving = self.server.serving()
        self._questions = count()  # unique prompts, so that none is cached

    def __enter__(self) -> Self:
        self._runner.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stop())
        self._runner.close()

    async def _start(self) -> None:
        await self._serving.__aenter__()
        self.server.scripts = deque([_SHOWS_COUNTS] * 50)
        for dialect in DIALECTS:
            engine = HttpEngine(dialect, self.server.url(dialect), idle_timeout=10)
            await engine.start()
            assert engine.ready, engine.why_not_ready
            policy = RetryPolicy(ATTEMPTS, initial_backoff=0.0)
            self.upstreams[dialect] = Upstream(engine, Admission(2), policy)
        assert {"prefix", "tokenize"} <= self.upstreams["vllm"].engine.capabilities
        has_counts = [
            "token_counts" in each.engine.capabilities for each in self.upstreams.values()
        ]
        assert has_counts == [False, False, True, True]

    async def _stop(self) -> None:
        for upstream in self.upstreams.values():
            await upstream.engine.aclose()
        await self._serving.__aexit__(None, None, None)

    def serve(self, request: Request, scripts: list[Script], shared: SharedResources) -> Served:
        """Execute a request against the scripts and return the finished run."""
        return self._runner.run(self._serve(request, scripts, shared))

    async def _serve(
        self, request: Request, scripts: list[Script], shared: SharedResources
    ) -> Served:
        self.server.reset(scripts, tokenize_failures=request.tokenize_failures)
        upstream = self.upstreams[request.dialect]
        run = make_run(
            upstream,
            "single" if request.params is None else "self_consistency",
            request.params,
            question=f"What is 6 times {next(self._questions)}?",
            shared=shared,
            sampling=Sampling(seed=request.seed, max_tokens=request.cap),
            is_streamed=request.is_streamed,
            prices={"actor": PRICE},
            **request.limits,
        )
        outcome: Outcome | None = None
        client = anyio.CancelScope()
        if request.disconnects_after is not None:
            self.server.on_event = _after(request.disconnects_after, client.cancel)
        with (
            patch.object(run, "candidate", wraps=run.candidate) as candidate,
            client,
            suppress(NoAnswer, CallRejected),
        ):
            outcome = await execute(run)
        await self.server.settle()
        votes = [call.args[0] for call in candidate.call_args_list]
        assert (upstream.admission.in_flight, upstream.admission.waiting) == (0, 0)
        failed = self.server.tokenize_failed
        return Served(request, run, votes, outcome, [*self.server.attempts], failed)


def _after(events: int, action: Callable[[], None]) -> Callable[[], None]:
    """Return a function that performs the action at each of its calls after the first `events` ones."""
    calls = count()
    return lambda: action() if next(calls) >= events else None


@dataclass(frozen=True)
class Served:
    """A finished run, its votes, and the replies that the server sent."""

    request: Request
    run: LiveRun
    votes: list[Completion]
    outcome: Outcome | None
    attempts: list[Attempt]
    tokenize_failed: int

    @property
    def records(self) -> list[CallFinished]:
        return call_records(self.run)

    @property
    def is_fully_read(self) -> bool:
        """True if no stream was closed early, so that all sent bytes were read."""
        return all(record.end != "cancelled" and not record.overrun for record in self.records)

    @property
    def has_counts(self) -> bool:
        return self.request.dialect in ("counting", "vllm")

    @property
    def has_limited_tokens(self) -> bool:
        return not {"max_tokens", "max_cost"}.isdisjoint(self.request.limits)

    def origins(self, text: str) -> set[tuple[int, int]]:
        """Return the (attempt, completion) pairs that generated parts of a text."""
        return {(int(attempt), int(index)) for attempt, index in ORIGIN.findall(text)}

    def choice(self, attempt: int, index: int) -> Choice:
        return self.attempts[attempt].choices[index]

    @property
    def is_capped(self) -> bool:
        """True if the server generated no more tokens than requested."""
        return all(attempt.script.obeys for attempt in self.attempts)

    def matched(self) -> Iterator[tuple[CallFinished, Attempt]]:
        """Yield usage records with their attempts, where their texts identify one."""
        for record in self.records:
            origins = {attempt for attempt, _ in self.origins("".join(record.texts))}
            if len(origins) == 1:
                yield record, self.attempts[origins.pop()]

    def check(self) -> None:
        """Assert all invariants."""
        self.check_votes()
        self.check_completeness()
        self.check_stream()
        self.check_requests()

    def check_votes(self) -> None:
        """There are at most n votes, each from a different completion of one attempt."""
        n, votes = self.request.n, self.votes
        indices = [vote.index for vote in votes]
        assert len(votes) <= n
        assert len(indices) == len(set(indices))
        assert all(0 <= index < n for index in indices)
        assert self.run.skipped_samples >= 0
        if self.request.is_visible:
            return
        seen: set[tuple[int, int]] = set()
        for vote in votes:
            ((attempt, index),) = self.origins(vote.text)
            assert (attempt, index) not in seen
            seen.add((attempt, index))
            choice = self.choice(attempt, index)
            is_truncated = vote.is_truncated and choice.text.startswith(vote.text)
            assert vote.text == choice.text or is_truncated
            if self.request.seed is not None:
                body = self.attempts[attempt].body
                assert body["seed"] + index == SEED + vote.index

    def check_completeness(self) -> None:
        """In a run without early stopping every finished completion is a vote, even in an interrupted reply."""
        params = self.request.params
        if params is None or params["stop"] != "none" or self.has_limited_tokens:
            return
        if self.request.disconnects_after is not None:
            return
        finished = {
            (attempt.number, index)
            for attempt in self.attempts
            for index, choice in enumerate(attempt.choices)
            if choice.reason is not None and choice.text
        }
        assert finished == set().union(*(self.origins(vote.text) for vote in self.votes))

    def check_stream(self) -> None:
        """The streamed text is the answer, and each attempt continues the text of the previous one."""
        if not self.request.is_visible:
            return
        text, delivered = "", 0
        for attempt in self.attempts:
            assert attempt.prefix == text or (attempt.prefix is None and not text)
            delivered += attempt.sent
            assert attempt.cap <= self.attempts[0].cap - delivered + attempt.sent
            text += attempt.choices[0].text
        events = self.run.trace.events
        streamed = "".join(each.text for each in events if isinstance(each, AnswerDelta))
        if self.outcome is not None:
            assert streamed == self.outcome.candidate.text
        assert text.startswith(streamed)
        assert text == streamed or self.has_limited_tokens or not self.is_fully_read

    def check_requests(self) -> None:
        """Each request is one call of the budget; some calls are cancelled before they are sent."""
        calls, requests = self.run.budget.spent["calls"], len(self.attempts)
        cancelled = sum(record.end == "cancelled" for record in self.records)
        nonempty = sum(not attempt.is_empty for attempt in self.attempts)
        assert sum(b.usage.prompt > 0 for b in self.records if b.end == "failed") <= nonempty
        assert requests <= calls <= requests + cancelled + self.tokenize_failed
