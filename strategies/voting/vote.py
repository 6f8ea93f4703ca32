"""Votes over answer classes. A ballot is a class id; `Run.class_of` decides equivalence.

A later answer may merge or split classes. Ballots are therefore counted again whenever the vote is read.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate, Completion
from secondpass.strategies.voting.medoid import Medoid
from secondpass.strategies.voting.stopping import NoEarlyStopping, StoppingRule


@dataclass
class Vote:
    """A vote over at most `n` samples, with a leader after each ballot.

    The candidate with the lowest index represents its class. Ties go to the class whose representative has the lowest
    index; the order in which samples finish decides only between equal indices. A sample without a class is counted as
    drawn but casts no ballot. As long as no sample has a class, as in open tasks, the medoid of the texts leads, without
    a score. Truncated texts are considered only if all texts are truncated.
    """

    n: int
    rule: StoppingRule = field(default_factory=NoEarlyStopping)
    ballots: list[int | None] = field(default_factory=list)
    _candidates: list[Candidate] = field(default_factory=list)
    _texts: Medoid = field(default_factory=Medoid)
    _truncated: Medoid = field(default_factory=Medoid)

    def add(self, candidate: Candidate, ballot: int | None) -> None:
        """Cast a candidate's ballot for a class; None: it has no class."""
        self.ballots.append(ballot)
        self._candidates.append(candidate)
        if not any(each is not None for each in self.ballots):
            (self._truncated if candidate.is_unfinished else self._texts).add(candidate)

    @property
    def leader(self) -> Candidate:
        """The leading candidate, scored with its share of the ballots. Raises ValueError without samples."""
        counts = self._counts
        if not counts:
            texts, which = (
                (self._texts, "") if self._texts else (self._truncated, ", all truncated")
            )
            return replace(texts.leader, why=f"most like the other texts, of {len(texts)}{which}")
        leader = self._first(counts)
        cast = counts.total()
        return replace(
            self._representatives[leader],
            score=counts[leader] / cast,
            score_kind="vote_share",
            why=f"{counts[leader]} of {cast} answers agree ({len(self.ballots)} samples drawn)",
        )

    def leaders(self, count: int) -> list[Candidate]:
        """Return the representatives of the `count` largest classes, largest first, ties to the lower index."""
        representatives = self._representatives
        return [representatives[ballot] for ballot in self._ranked(self._counts)[:count]]

    @property
    def share(self) -> float | None:
        """The largest class's share (0 to 1) of the ballots; None without ballots."""
        counts = self._counts
        return max(counts.values()) / counts.total() if counts else None

    @property
    def is_decided(self) -> bool:
        """True if the stopping rule is satisfied."""
        return self.rule.is_decided(self.ballots, self.n - len(self.ballots))

    @property
    def _counts(self) -> Counter[int]:
        """Ballots of each class."""
        return Counter(ballot for ballot in self.ballots if ballot is not None)

    @property
    def _representatives(self) -> dict[int, Candidate]:
        """The candidate with the lowest index of each class; the first of equal indices."""
        found: dict[int, Candidate] = {}
        for candidate, ballot in zip(self._candidates, self.ballots, strict=True):
            if ballot is not None and candidate.index < found.setdefault(ballot, candidate).index:
                found[ballot] = candidate
        return found

    def _first(self, totals: Mapping[int, float]) -> int:
        """Return the class with the largest total, ties to the lower index."""
        largest = max(totals.values())
        tied = [each for each, total in totals.items() if total == largest]
        return tied[0] if len(tied) == 1 else self._ranked(dict.fromkeys(tied, largest))[0]

    def _ranked(self, totals: Mapping[int, float]) -> list[int]:
        """Return the classes by descending total, ties to the lower index."""
        representatives = self._representatives
        return sorted(totals, key=lambda each: (-totals[each], representatives[each].index))


@dataclass
class WeightedVote(Vote):
    """A vote with weighted ballots, shrunk towards equal weights by `trust` (0 to 1).

    The weight of a ballot is trust * weight + (1 - trust) * mean, where mean is the mean of all weights. A ballot without
    a weight has the mean. Without weights, with equal weights, or with trust 0, it equals the plain vote.
    """

    trust: float = 1.0
    weights: list[float | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 <= self.trust <= 1:
            raise ValueError(f"trust: must be 0 to 1, not {self.trust}")

    def add(self, candidate: Candidate, ballot: int | None, weight: float | None = None) -> None:
        """Cast a candidate's ballot for a class.

        Raises ValueError unless `weight` is None or a finite number of at least 0.
        """
        if weight is not None and not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"weight: must be a finite number of at least 0, not {weight}")
        self.weights.append(weight)
        super().add(candidate, ballot)

    @property
    def leader(self) -> Candidate:
        """The leading candidate, scored with its share of the weight. Raises ValueError without samples."""
        if not self._is_weighted:
            return super().leader
        sums = self._sums
        total = math.fsum(sums.values())
        best = self._first(sums)
        supporters = self.ballots.count(best)
        return replace(
            self._representatives[best],
            score=sums[best] / total,
            score_kind="weighted_vote_share",
            why=f"{supporters} of {sum(b is not None for b in self.ballots)} answers agree, with "
            f"{sums[best] / total:.2f} of the weight ({len(self.ballots)} samples drawn)",
        )

    @property
    def is_decided(self) -> bool:
        """True if the rule, which counts ballots, is satisfied and the leader by weight also leads by count."""
        if not super().is_decided:
            return False
        if not self._is_weighted:
            return True
        return self._first(self._sums) == self._first(self._counts)

    @property
    def _cast(self) -> list[tuple[int, float | None]]:
        pairs = zip(self.ballots, self.weights, strict=True)
        return [(ballot, weight) for ballot, weight in pairs if ballot is not None]

    @property
    def _is_weighted(self) -> bool:
        known = {weight for _, weight in self._cast if weight is not None}
        return self.trust > 0 and len(known) > 1

    @property
    def _sums(self) -> dict[int, float]:
        """Total weight of each class. fsum is correctly rounded, so that the order of ballots does not matter."""
        known = [weight for _, weight in self._cast if weight is not None]
        mean = math.fsum(known) / len(known)
        shares: defaultdict[int, list[float]] = defaultdict(list)
        for ballot, weight in self._cast:
            own = mean if weight is None else weight
            shares[ballot].append(self.trust * own + (1 - self.trust) * mean)
        return {ballot: math.fsum(each) for ballot, each in shares.items()}


async def cast_vote(run: Run, vote: Vote, draft: Completion) -> tuple[Candidate, int | None]:
    """Cast a draft's ballot and elect the leader; return the draft's candidate and its class."""
    candidate = run.candidate(draft)
    ballot = await run.class_of(candidate)
    vote.add(candidate, ballot)
    run.elect(vote.leader)
    return candidate, ballot
