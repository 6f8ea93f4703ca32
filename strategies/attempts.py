"""Attempts at a question, what was said of them, and the answer that they make together. Pure.

A retry may replace what the drafts agree on only where something besides itself speaks for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from secondpass.strategies.api.judgements import MARGIN
from secondpass.strategies.api.ranking import log_odds, probability_of
from secondpass.strategies.api.values import Candidate, Completion
from secondpass.strategies.voting.vote import Vote, WeightedVote

WRITTEN = 0.8
"""How probably an attempt is right that a written verdict calls correct: odds of 4 to 1. One called wrong: 0.2."""

STEP, HOTTEST = 0.15, 1.2
"""What each retry adds to the temperature under the schedule of arXiv 2506.11930, and where that ends."""

LOSS = 2
"""So many numbers fewer than the attempts before it may a retry hold (arXiv 2411.16579)."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What was said of an attempt: how probably it is right (0 to 1), and what is wrong with it.

    `issues` is None where nothing was said that a retry could be told. `is_external`: the task's own tests said it.
    """

    right: float
    issues: tuple[str, ...] | None = None
    is_external: bool = False

    @property
    def is_wrong(self) -> bool:
        """Is the attempt more probably wrong than right?"""
        return self.right < 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A draft (round 0) or a retry of a chain, its class, and what was said of it (None: nothing that can be read).

    `is_repeat`: its answer is one that the chain was told of.
    """

    chain: int
    round: int = 0
    completion: Completion
    candidate: Candidate
    ballot: int | None
    ruling: Ruling | None = None
    is_repeat: bool = False

    @property
    def is_rejected(self) -> bool:
        """Was it said to be wrong?"""
        return self.ruling is not None and self.ruling.is_wrong

    @property
    def is_accepted(self) -> bool:
        """Was it said to be right?"""
        return self.ruling is not None and not self.ruling.is_wrong


def elected(attempts: Sequence[Attempt], *, trust: float, is_hard: bool = False) -> Candidate:
    """The winner of the vote over all answers, each weighted by what was said of it, ties to what the drafts said.

    `trust` (0 to 1) shrinks the weights, see `WeightedVote`; what tests said is trusted. With `is_hard` those said to
    be wrong are dropped and the others weigh the same; where none is left, all count. Raises ValueError for none.
    """
    if any(each.ruling is not None and each.ruling.is_external for each in attempts):
        trust = 1.0
    ordered = _in_order(attempts)
    counting = _counting(ordered, has_weight=trust > 0 or is_hard)
    if is_hard:
        counting = [each for each in counting if not each.is_rejected] or counting
    vote = WeightedVote(n=len(counting), trust=0.0 if is_hard else trust)
    for each in counting:
        vote.add(each.candidate, each.ballot, _weight(each))
    return vote.leader


def _in_order(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Drafts with the answer that leads among drafts, other drafts, retries: votes give ties to the first."""
    by_round = sorted(attempts, key=lambda each: (each.round, each.chain))
    drafts = Vote(n=len(by_round))
    for each in by_round:
        if each.round == 0:
            drafts.add(each.candidate, each.ballot)
    leading = counts.most_common(1)[0][0] if (counts := _counts(drafts.ballots)) else None
    return sorted(by_round, key=lambda each: (each.round, each.ballot != leading))


def _counting(attempts: Sequence[Attempt], *, has_weight: bool) -> list[Attempt]:
    """The attempts that count: every draft, and each retry whose answer is confirmed.

    That is an answer that two attempts have, or a draft, or (`has_weight`) one that was said to be right. In open tasks
    no answer equals another: there a retry that was said to be right takes the place of its chain's draft.
    """
    ballots = _counts(each.ballot for each in attempts)
    if not ballots:
        return _latest_accepted(attempts) if has_weight else [a for a in attempts if not a.round]
    known = {each.ballot for each in attempts if each.round == 0} - {None}
    accepted = {each.ballot for each in attempts if has_weight and each.is_accepted}
    return [
        each
        for each in attempts
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


def _latest_accepted(attempts: Sequence[Attempt]) -> list[Attempt]:
    chains: dict[int, Attempt] = {}
    for each in attempts:
        if each.round == 0 or each.is_accepted:
            chains[each.chain] = each
    return list(chains.values())


def _counts(ballots: Iterable[int | None]) -> Counter[int]:
    return Counter(ballot for ballot in ballots if ballot is not None)


def _weight(attempt: Attempt) -> float | None:
    """How probably it is right; an answer that a chain was told of and gave again weighs less, by odds of 4 to 1."""
    right = None if attempt.ruling is None else attempt.ruling.right
    if not attempt.is_repeat:
        return right
    return probability_of(log_odds(0.5 if right is None else right) - MARGIN)


def scheduled(temperature: float, number: int) -> float:
    """The temperature of retry `number` (from 1): it rises from that of the drafts to 1.2."""
    return min(temperature + STEP * number, HOTTEST)


def loses_numbers(text: str, *others: str) -> bool:
    """Does a solution hold far fewer numbers than each of the attempts before it?"""
    return _numbers(text) < min(map(_numbers, others)) - LOSS


def _numbers(text: str) -> int:
    return len(_NUMBER.findall(text))


def summary(issues: Sequence[str], attempt: str) -> str:
    """The issues in lines, without those that repeat the whole attempt, which a retry is not to see."""
    whole = " ".join(attempt.split())
    told = [each.strip() for each in issues if each.strip() and whole not in " ".join(each.split())]
    return "\n".join(told) or "Something in it is wrong."
