"""The candidates of a run, each reported once, and again only when something new is to be said of it."""

from __future__ import annotations

from secondpass.service.common.events import CandidateSeen, Trace
from secondpass.strategies.api.values import Candidate


class Candidates:
    """What has been reported, by the text that a candidate holds and its index."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._reported: dict[tuple[int, str], Candidate] = {}
        self._leader: tuple[int, str] | None = None

    def note(self, candidate: Candidate) -> None:
        """There is such a candidate: reported unless this very one was."""
        key = (candidate.index, candidate.text)
        if self._reported.get(key) != candidate:
            self._report(key, candidate, is_best=False)

    def note_best(self, candidate: Candidate) -> None:
        """The candidate leads: reported where it did not yet. A vote's share, which grows with it, is not news."""
        key = (candidate.index, candidate.text)
        if key != self._leader:
            self._leader = key
            self._report(key, candidate, is_best=True)

    def _report(self, key: tuple[int, str], candidate: Candidate, *, is_best: bool) -> None:
        self._reported[key] = candidate
        self._trace.emit(
            CandidateSeen(at=self._trace.elapsed, candidate=candidate, is_best=is_best)
        )
