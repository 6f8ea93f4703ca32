"""Prometheus metrics, a subscriber of run events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from secondpass.service.common.events import (
    AnswerDelta,
    CallDelta,
    CallFinished,
    CallStarted,
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    Subscriber,
    VerdictRecorded,
)

OVERHEAD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

TEST_STATUSES = ("passed", "failed", "timeout", "error")
"""Statuses of tests of code that are labels; any other is counted as "none"."""

SECONDS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Watched(Protocol):
    """The current state of an engine."""

    @property
    def is_ready(self) -> bool: ...

    @property
    def waiting(self) -> int: ...


class Metrics:
    """Metrics of one service, in a separate registry because vLLM uses the global one.

    Args:
        engine_registry: Returns the registry of an in-process engine. Its metrics are exported too.
    """

    def __init__(self, engine_registry: Callable[[], CollectorRegistry] | None = None) -> None:
        self._engine_registry = engine_registry
        self._registry = CollectorRegistry()
        self._solves = Counter(
            "secondpass_solves",
            "Finished runs by stop reason, failed runs by error code",
            ["strategy", "stop_reason"],
            registry=self._registry,
        )
        self._calls = Counter(
            "secondpass_engine_calls",
            "Calls by the end of their last attempt",
            ["strategy", "role", "end"],
            registry=self._registry,
        )
        self._attempts = Counter(
            "secondpass_engine_attempts",
            "Engine requests, including retries",
            ["role"],
            registry=self._registry,
        )
        self._tokens = Counter(
            "secondpass_tokens",
            "Tokens of all calls by kind: prompt includes cached, completion includes wasted",
            ["role", "kind"],
            registry=self._registry,
        )
        self._overruns = Counter(
            "secondpass_engine_overruns",
            "Engine requests that used more tokens than the budget of their run had left",
            ["role"],
            registry=self._registry,
        )
        self._tested = Counter(
            "secondpass_answers_tested",
            "Answers checked by the tests of their task, by test status",
            ["status"],
            registry=self._registry,
        )
        self._runs_in_flight = Gauge(
            "secondpass_runs_in_flight", "Runs in progress", registry=self._registry
        )
        self._calls_in_flight = Gauge(
            "secondpass_engine_calls_in_flight",
            "Calls in progress",
            ["role"],
            registry=self._registry,
        )
        self._overhead = Histogram(
            "secondpass_overhead_seconds",
            "Seconds of a run during which no call was in an engine or waiting for one",
            ["strategy"],
            buckets=OVERHEAD_BUCKETS,
            registry=self._registry,
        )
        self._seconds = Histogram(
            "secondpass_solve_seconds",
            "Seconds of a run",
            ["strategy"],
            buckets=SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._plain = Counter(
            "secondpass_plain_requests",
            "Forwarded requests by HTTP status",
            ["status"],
            registry=self._registry,
        )
        self._auth_failures = Counter(
            "secondpass_auth_failures",
            "Requests refused for a missing or unknown API key",
            ["reason"],
            registry=self._registry,
        )
        self._plain_in_flight = Gauge(
            "secondpass_plain_requests_in_flight",
            "Forwarded requests in progress",
            registry=self._registry,
        )

    def count_auth_failure(self, reason: Literal["missing", "unknown"]) -> None:
        """Count a request that was refused for its API key."""
        self._auth_failures.labels(reason).inc()

    def subscriber(self, strategy: str) -> Subscriber:
        """Return a subscriber that counts the events of one run of `strategy`."""

        def count(event: Event) -> None:
            if isinstance(event, AnswerDelta | CallDelta):
                return  # fast path: by far the most frequent events, and no metric counts them
            match event:
                case RunStarted():
                    self._runs_in_flight.inc()
                case CallStarted():
                    self._calls_in_flight.labels(event.role).inc()
                case CallFinished():
                    self._count_call(strategy, event)
                case VerdictRecorded(role="verifier"):
                    known = event.verdict in TEST_STATUSES
                    self._tested.labels(event.verdict if known else "none").inc()
                case RunFinished():
                    self._count_run(strategy, event.stop_reason, event)
                case RunFailed():
                    self._count_run(strategy, event.reason, event)

        return count

    def start_forwarded(self) -> Callable[[int | None], None]:
        """Count a forwarded request as in progress.

        Returns:
            A function to call when the request ends, with its HTTP status or None.
        """
        self._plain_in_flight.inc()

        def ended(status: int | None) -> None:
            self._plain_in_flight.dec()
            self._plain.labels(str(status or "none")).inc()

        return ended

    def watch(self, engines: Mapping[str, Watched]) -> None:
        """Export the state of these engines, read at each scrape."""
        self._registry.register(_Engines(engines))

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        engine = generate_latest(self._engine_registry()) if self._engine_registry else b""
        return generate_latest(self._registry) + engine

    def _count_call(self, strategy: str, event: CallFinished) -> None:
        self._calls_in_flight.labels(event.role).dec()
        if not event.retried:
            self._calls.labels(strategy, event.role, event.end).inc()
        self._attempts.labels(event.role).inc(event.attempts)
        if event.overrun:
            self._overruns.labels(event.role).inc()
        for kind, tokens in (
            ("prompt", event.usage.prompt),
            ("cached", event.usage.cached),
            ("completion", event.usage.completion),
        ):
            self._tokens.labels(event.role, kind).inc(tokens)

    def _count_run(self, strategy: str, reason: str, event: RunFinished | RunFailed) -> None:
        self._runs_in_flight.dec()
        for role, tokens in event.wasted.items():
            self._tokens.labels(role, "wasted").inc(tokens)
        self._solves.labels(strategy, reason).inc()
        self._overhead.labels(strategy).observe(event.overhead)
        self._seconds.labels(strategy).observe(event.seconds)


class _Engines(Collector):
    def __init__(self, engines: Mapping[str, Watched]) -> None:
        self._engines = engines

    def collect(self) -> Iterator[GaugeMetricFamily]:
        ready = GaugeMetricFamily(
            "secondpass_engine_ready", "1 if the engine is ready, else 0", labels=["engine"]
        )
        waiting = GaugeMetricFamily(
            "secondpass_engine_calls_waiting",
            "Calls waiting for an admission slot",
            labels=["engine"],
        )
        for name, engine in self._engines.items():
            ready.add_metric([name], float(engine.is_ready))
            waiting.add_metric([name], engine.waiting)
        yield ready
        yield waiting
