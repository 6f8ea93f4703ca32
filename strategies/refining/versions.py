"""Versions of an answer (drafts, retries, revisions), their verdicts, and the vote over them. Pure.

A retry may replace what the drafts agree on only where something besides itself confirms it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from secondpass.strategies.api.judgements import MARGIN
from secondpass.strategies.api.ranking import log_odds, probability_of
from secondpass.strategies.api.values import Candidate, Completion
from secondpass.strategies.voting.vote import WeightedVote


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionVerdict:
    """The verdict on a version: the probability (0 to 1) that it is right, and the issues that were found.

    `issues` is None where none can be shown to a retry. `is_external`: the task's own tests returned the verdict.
    """

    right: float
    issues: tuple[str, ...] | None = None
    is_external: bool = False

    @property
    def is_wrong(self) -> bool:
        """True where the version is more probably wrong than right."""
        return self.right < 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A draft (round 0) or a later version in its chain, its answer class, and its verdict (None: none that is readable).

    `is_repeat`: its answer is one that the chain's earlier versions have, and weighs less.
    """

    chain: int
    round: int = 0
    completion: Completion
    candidate: Candidate
    ballot: int | None
    verdict: VersionVerdict | None = None
    is_repeat: bool = False

    @property
    def is_rejected(self) -> bool:
        """True where the verdict is "wrong"."""
        return self.verdict is not None and self.verdict.is_wrong

    @property
    def is_accepted(self) -> bool:
        """True where the verdict is "right"."""
        return self.verdict is not None and not self.verdict.is_wrong


def is_same(one: Version, other: Version) -> bool:
    """Compare two versions: equal answers, or texts that are equal but for white space."""
    if one.ballot is not None and one.ballot == other.ballot:
        return True
    return one.candidate.text.split() == other.candidate.text.split()


def winner(versions: Sequence[Version], *, trust: float, is_hard: bool = False) -> Candidate:
    """The winner of the vote over all answers, each weighted by its verdict; ties go to the drafts' leader.

    `trust` (0 to 1) shrinks the weights, see `WeightedVote`; verdicts of tests are trusted. With `is_hard` rejected
    versions are dropped and the others weigh the same; where none is left, all count. Raises ValueError without versions.
    """
    if any(each.verdict is not None and each.verdict.is_external for each in versions):
        trust = 1.0
    ordered = _in_order(versions)
    counting = _counting(ordered, has_weight=trust > 0 or is_hard)
    if is_hard:
        counting = [each for each in counting if not each.is_rejected] or counting
    vote = WeightedVote(n=len(counting), trust=0.0 if is_hard else trust)
    for place, each in enumerate(counting):  # a vote breaks ties by index
        vote.add(replace(each.candidate, index=place), each.ballot, _weight(each))
    leader = vote.leader
    return replace(leader, index=counting[leader.index].candidate.index)


def _in_order(versions: Sequence[Version]) -> list[Version]:
    """The order in which ties are broken: drafts with the answer that leads among drafts, other drafts, later versions."""
    by_round = sorted(versions, key=lambda each: (each.round, each.chain))
    counts = _counts(each.ballot for each in by_round if each.round == 0)
    leading = counts.most_common(1)[0][0] if counts else None
    return sorted(by_round, key=lambda each: (each.round, each.ballot != leading))


def _counting(versions: Sequence[Version], *, has_weight: bool) -> list[Version]:
    """The versions that count: every draft, and each later one whose answer is confirmed.

    A confirmed answer is one of a draft, one that two versions have, or (`has_weight`) one with a verdict "right". In open
    tasks no answer equals another: there an accepted version takes the place of its chain's draft.
    """
    ballots = _counts(each.ballot for each in versions)
    if not ballots:
        return _latest_accepted(versions) if has_weight else [v for v in versions if not v.round]
    known = {each.ballot for each in versions if each.round == 0} - {None}
    accepted = {each.ballot for each in versions if has_weight and each.is_accepted}
    return [
        each
        for each in versions
        if each.round == 0
        or (
            each.ballot is not None
            and (
                not known
                or each.ballot in known
                or each.ballot in accepted
                or ballots[each.ballot] > 1
            )
        )
    ]


def _latest_accepted(versions: Sequence[Version]) -> list[Version]:
    chains: dict[int, Version] = {}
    for each in versions:
        if each.round == 0 or each.is_accepted:
            chains[each.chain] = each
    return list(chains.values())


def _counts(ballots: Iterable[int | None]) -> Counter[int]:
    return Counter(ballot for ballot in ballots if ballot is not None)


def _weight(version: Version) -> float | None:
    """The probability that the version is right; a repeated answer weighs less, by odds of 4 to 1."""
    right = None if version.verdict is None else version.verdict.right
    if not version.is_repeat:
        return right
    return probability_of(log_odds(0.5 if right is None else right) - MARGIN)
