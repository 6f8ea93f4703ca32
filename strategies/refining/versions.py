"""Versions of an answer (drafts, retries, revisions), their verdicts, and the vote over them. Pure.

The answer of a single retry replaces the leading answer of the drafts only if a trusted verdict
accepts it.
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
    """Verdict on a version: the probability (0 to 1) that it is correct, and the issues found.

    `issues` is None if a retry prompt cannot contain any. `is_external` is True for a verdict of
    the task's own tests.
    """

    p_right: float
    issues: tuple[str, ...] | None = None
    is_external: bool = False

    @property
    def is_wrong(self) -> bool:
        """True if the version is more probably incorrect than correct."""
        return self.p_right < 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A draft (round 0) or a later version of its chain.

    `ballot` is the class of its answer, None without an answer. `verdict` is None without a
    readable verdict. With `is_repeat` an earlier version of the chain has the same answer, and the
    vote weighs this one less.
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
        """True if the verdict is "wrong"."""
        return self.verdict is not None and self.verdict.is_wrong

    @property
    def is_accepted(self) -> bool:
        """True if the verdict is "right"."""
        return self.verdict is not None and not self.verdict.is_wrong


def is_same(one: Version, other: Version) -> bool:
    """Return whether two versions have the same answer, or texts that differ only in whitespace."""
    if one.ballot is not None and one.ballot == other.ballot:
        return True
    return one.candidate.text.split() == other.candidate.text.split()


def winner(versions: Sequence[Version], *, trust: float, is_hard: bool = False) -> Candidate:
    """Return the winner of the vote over all answers, weighted by verdicts.

    Ties go to the leading answer of the drafts. `trust` (0 to 1) shrinks the weights as in
    `WeightedVote`; verdicts of tests have full trust. With `is_hard` rejected versions are dropped
    and the others have equal weights. If all are rejected, all vote. Raises ValueError without
    versions.
    """
    if any(each.verdict is not None and each.verdict.is_external for each in versions):
        trust = 1.0
    ordered = _tie_break_order(versions)
    voters = _eligible(ordered, has_weight=trust > 0 or is_hard)
    if is_hard:
        voters = [each for each in voters if not each.is_rejected] or voters
    vote = WeightedVote(n=len(voters), trust=0.0 if is_hard else trust)
    for position, each in enumerate(voters):  # a vote breaks ties by index
        vote.add(replace(each.candidate, index=position), each.ballot, _weight(each))
    leader = vote.leader
    return replace(leader, index=voters[leader.index].candidate.index)


def _tie_break_order(versions: Sequence[Version]) -> list[Version]:
    """Sort versions: drafts with the leading answer of all drafts, other drafts, later versions."""
    by_round = sorted(versions, key=lambda each: (each.round, each.chain))
    counts = _ballot_counts(each.ballot for each in by_round if each.round == 0)
    leading = counts.most_common(1)[0][0] if counts else None
    return sorted(by_round, key=lambda each: (each.round, each.ballot != leading))


def _eligible(versions: Sequence[Version], *, has_weight: bool) -> list[Version]:
    """Return the versions that vote: all drafts, and later versions with a confirmed answer.

    An answer is confirmed if a draft or a second version has it or, with `has_weight`, a verdict
    accepts it. If no draft has an answer, every answer votes. In open tasks, whose answers cannot
    be compared, an accepted version replaces its chain's draft.
    """
    ballots = _ballot_counts(each.ballot for each in versions)
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


def _ballot_counts(ballots: Iterable[int | None]) -> Counter[int]:
    return Counter(ballot for ballot in ballots if ballot is not None)


def _weight(version: Version) -> float | None:
    """Return the probability that the version is correct; a repeated answer divides its odds by 4."""
    p_right = None if version.verdict is None else version.verdict.p_right
    if not version.is_repeat:
        return p_right
    return probability_of(log_odds(0.5 if p_right is None else p_right) - MARGIN)
