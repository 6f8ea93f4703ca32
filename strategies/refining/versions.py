"""Versions of an answer: drafts, retries and revisions, their verdicts, and the one that is elected. Pure.

A retry may replace what the drafts agree on only where something besides itself speaks for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from secondpass.strategies.api import quoting
from secondpass.strategies.api.judgements import MARGIN
from secondpass.strategies.api.ranking import log_odds, probability_of
from secondpass.strategies.api.run import After
from secondpass.strategies.api.values import Candidate, Completion
from secondpass.strategies.voting.vote import Vote, WeightedVote

Feedback = Literal["tests", "review", "merged", "neutral", "none"]
History = Literal["last", "full", "feedback_only"]
Gate = Literal["tests", "vote", "prefer", "draw"]

_MARK = re.compile(r"^[\s*_#>]*revised solution[\s*_#:]*$", re.IGNORECASE | re.MULTILINE)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one chain is revised, after everything that was left to the task and the models is decided."""

    feedback: Feedback
    history: History
    gate: Gate


@dataclass
class Chain:
    """The versions of one draft, oldest first, and what was found of each that was revised.

    `best` is the draft until a revision passes the gate.
    """

    plan: Plan
    versions: list[Attempt]
    best: Attempt
    findings: list[str] = field(default_factory=list)

    @property
    def head(self) -> Attempt:
        """The newest version, whether or not anything speaks for it."""
        return self.versions[-1]

    @property
    def is_changed(self) -> bool:
        """Is the newest answer another one than the draft's?"""
        return not is_same(self.head, self.versions[0])

    @property
    def votes(self) -> list[Attempt]:
        """What the chain says in a vote: its first and its last answer where the vote is the gate, else its best.

        What stands between has no vote, so that no chain outvotes the others by repeating itself.
        """
        if self.plan.gate == "vote":
            return [self.versions[0], replace(self.head, round=1)]
        return [replace(self.best, round=0)]


def is_same(one: Attempt, other: Attempt) -> bool:
    """Have two versions equal answers, or but for white space equal texts?"""
    if one.ballot is not None and one.ballot == other.ballot:
        return True
    return one.candidate.text.split() == other.candidate.text.split()


def divided(text: str, *, is_open: bool) -> tuple[str, str] | None:
    """A review and the revision after it; a line that says REVISED SOLUTION stands between them.

    Without such a line all is revision, from which an answer can be read all the same; None in an open task, where the
    review would be a part of the answer, and where nothing follows the line.
    """
    review, *rest = _MARK.split(text, maxsplit=1)
    if not rest:
        return None if is_open else ("", text)
    return (review.strip(), rest[0].strip()) if rest[0].strip() else None


@dataclass(frozen=True, slots=True)
class Wording:
    """What a reviser is asked: the prompt, in which conversation, and what fills it."""

    prompt: str
    values: Mapping[str, Any]
    after: After = "question"


def wording(chain: Chain, tried: Sequence[str], conclude: Callable[[str], str]) -> Wording:
    """How the newest version is to be revised.

    `tried` are the answers that may be told where no attempt is shown; `conclude` leaves the thoughts out of a text.
    """
    if chain.plan.feedback == "neutral":
        return Wording("second_turn", {}, _conversation(chain, conclude))
    if chain.plan.history == "feedback_only":
        return _unseen(chain, tried)
    return _seen(chain, [conclude(each.candidate.text) for each in chain.versions])


def _seen(chain: Chain, texts: Sequence[str]) -> Wording:
    """With the newest version in sight, or all of them; `texts` are theirs."""
    is_full = chain.plan.history == "full"
    shown = slice(None) if is_full else slice(-1, None)
    if chain.plan.feedback == "merged":  # with the review that each was written after
        pairs = zip(chain.findings, texts[1:], strict=True)
        reviewed = [texts[0], *("\n\n".join(pair).strip() for pair in pairs)]
        return Wording("review_and_refine", {"attempts": reviewed[shown]})
    attempts, critiques = texts[shown], chain.findings[shown]
    if chain.plan.feedback == "none":
        return Wording("improve", {"attempts": attempts})
    if chain.plan.feedback == "tests":
        return Wording("refine_tests", {"attempts": attempts, "critiques": critiques})
    if is_full:
        return Wording("refine_full", {"attempts": attempts, "critiques": critiques})
    return Wording("refine", {"attempt": attempts[0], "critique": critiques[0]})


def _conversation(chain: Chain, conclude: Callable[[str], str]) -> Completion:
    """The newest version as the last turn: of all turns so far, or in reply to the question alone.

    It is not quoted, being a turn of its own, but nothing in it can end that turn.
    """
    newest = chain.head.completion
    newest = replace(newest, text=quoting.disarm(conclude(newest.text)))
    if chain.plan.history == "full":
        return newest
    return newest.in_reply_to(chain.versions[0].completion.messages)


def _unseen(chain: Chain, tried: Sequence[str]) -> Wording:
    critique = chain.findings[-1]
    if chain.plan.feedback == "tests":
        return Wording("refine_tests_unseen", {"critique": critique})
    if not tried:
        return Wording("retry_unseen", {"critique": critique})
    return Wording("retry", {"tried": tried, "critique": critique})
