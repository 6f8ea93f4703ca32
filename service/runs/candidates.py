"""Reporting of a run's candidates: each once, and again only after a change."""

from __future__ import annotations

from secondpass.service.common.events import CandidateRecorded, Trace
from secondpass.strategies.api.values import Candidate


class Candidates:
    """Candidates reported so far, keyed by index and text."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._reported: dict[tuple[int, str], Candidate] = {}
        self._leader: tuple[int, str] | None = None

    @property
    def listed(self) -> tuple[Candidate, ...]:
        """All candidates in order of first appearance, each as last reported."""
        return tuple(self._reported.values())

    def report(self, candidate: Candidate) -> None:
        """Report a candidate, unless an equal one was the last reported for its index and text."""
        key = (candidate.index, candidate.text)
        if self._reported.get(key) != candidate:
            self._emit(key, candidate, is_best=False)

    def report_leader(self, candidate: Candidate) -> None:
        """Report a new leader. A growing vote share of the same leader is not reported."""
        key = (candidate.index, candidate.text)
        if key != self._leader:
            self._leader = key
            self._emit(key, candidate, is_best=True)

    def _emit(self, key: tuple[int, str], candidate: Candidate, *, is_best: bool) -> None:
        self._reported[key] = candidate
        self._trace.emit(
            CandidateRecorded(at=self._trace.elapsed, candidate=candidate, is_best=is_best)
        )
