"""Votes over recorded samples: what a stopping rule would have lost and saved, with no engine.

A poll is one question's samples, each with the class of its answer (None: no answer) and whether it is right. Shuffles
redraw the order in which samples would have come; one seed gives every rule the same orders, so that rules can be
compared question by question.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from secondpass.service.lab.evaluation.intervals import mean
from secondpass.strategies.voting.stopping import Never, StoppingRule

SHUFFLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """One question's samples: classes of equal answers, and which samples are right. Equally long, not empty."""

    question: str
    classes: tuple[int | None, ...]
    correct: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not self.classes or len(self.classes) != len(self.correct):
            raise ValueError(f"{self.question}: {len(self.classes)} classes, {len(self.correct)} grades")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteReplay:
    """What a rule came to, question by question: accuracy (0 to 1) and samples drawn, both means over shuffles."""

    accuracies: tuple[float, ...]
    drawn: tuple[float, ...]
    available: int

    @property
    def accuracy(self) -> float:
        """The mean over questions."""
        return mean(self.accuracies)

    @property
    def samples(self) -> float:
        """Samples drawn for a question, on average."""
        return mean(self.drawn)

    @property
    def share_used(self) -> float:
        """Samples drawn of those there were, 0 to 1."""
        return self.samples / self.available


def single(poll: Poll) -> float:
    """The expected accuracy of one sample."""
    return sum(poll.correct) / len(poll.correct)


def any_correct(poll: Poll) -> float:
    """1 when an oracle could pick a right sample, else 0."""
    return float(any(poll.correct))


def majority(poll: Poll) -> float:
    """The expected accuracy of the vote of all samples: tied classes share. Without an answer it is wrong."""
    return _share_right(poll, range(len(poll.classes)))


def replay_votes(
    polls: Sequence[Poll],
    rule: StoppingRule | None = None,
    *,
    n: int | None = None,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> VoteReplay:
    """Vote over at most `n` samples of each poll in random order, one at a time, until `rule` has seen enough.

    A sample without an answer counts as drawn. Raises ValueError without polls, where polls differ in size, or
    where `n` is more than there are.
    """
    available = _size(polls)
    most = available if n is None else n
    if not 1 <= most <= available:
        raise ValueError(f"n must be from 1 to {available}, not {n}")
    chance = random.Random(seed)  # noqa: S311 - statistics, not secrets
    accuracies, drawn = [], []
    for poll in polls:
        runs = [
            _vote(poll, chance.sample(range(available), available)[:most], rule or Never())
            for _ in range(shuffles)
        ]
        accuracies.append(mean([right for right, _ in runs]))
        drawn.append(mean([float(count) for _, count in runs]))
    return VoteReplay(accuracies=tuple(accuracies), drawn=tuple(drawn), available=most)


def _vote(poll: Poll, order: Sequence[int], rule: StoppingRule) -> tuple[float, int]:
    ballots: list[int | None] = []
    for at in order:
        ballots.append(poll.classes[at])
        if rule.is_decided(ballots, len(order) - len(ballots)):
            break
    return _share_right(poll, order[: len(ballots)]), len(ballots)


def _share_right(poll: Poll, samples: Sequence[int]) -> float:
    """The share of right ones among the leading classes; a class graded both ways counts by its shares."""
    votes = [at for at in samples if poll.classes[at] is not None]
    counts = Counter(poll.classes[at] for at in votes)
    most = max(counts.values(), default=0)
    leading = [at for at in votes if counts[poll.classes[at]] == most]
    return sum(poll.correct[at] for at in leading) / len(leading) if leading else 0.0


def _size(polls: Sequence[Poll]) -> int:
    sizes = {len(poll.classes) for poll in polls}
    if len(sizes) != 1:
        raise ValueError(f"polls must be there and of one size, not of {sorted(sizes)}")
    return sizes.pop()
