"""Votes over recorded samples, without an engine: accuracy and samples drawn under a stopping rule.

A poll is one question's samples, each with its answer class (None: no answer) and its correctness. A shuffle is a random
order in which the samples arrive. One seed gives every rule the same orders, so that rules can be compared per question.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from secondpass.service.lab.evaluation.intervals import mean
from secondpass.strategies.voting.stopping import NoEarlyStopping, StoppingRule

SHUFFLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """One question's samples: answer class and correctness of each, equally long and not empty."""

    question: str
    classes: tuple[int | None, ...]
    correct: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not self.classes or len(self.classes) != len(self.correct):
            raise ValueError(f"{self.question}: {len(self.classes)} classes, {len(self.correct)} grades")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteReplay:
    """Result of a rule per question: accuracy (0 to 1) and samples drawn, both means over shuffles."""

    accuracies: tuple[float, ...]
    drawn: tuple[float, ...]
    available: int

    @property
    def accuracy(self) -> float:
        """Mean accuracy over questions."""
        return mean(self.accuracies)

    @property
    def samples(self) -> float:
        """Mean number of samples drawn per question."""
        return mean(self.drawn)

    @property
    def share_used(self) -> float:
        """Share of the available samples that were drawn, 0 to 1."""
        return self.samples / self.available


def single(poll: Poll) -> float:
    """Return the expected accuracy of one sample."""
    return sum(poll.correct) / len(poll.correct)


def any_correct(poll: Poll) -> float:
    """Return 1 if any sample is correct (pass@n of an oracle), else 0."""
    return float(any(poll.correct))


def majority(poll: Poll) -> float:
    """Return the expected accuracy of the vote of all samples; tied classes share, no answer is 0."""
    return _share_right(poll, range(len(poll.classes)))


def replay_votes(
    polls: Sequence[Poll],
    rule: StoppingRule | None = None,
    *,
    n: int | None = None,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> VoteReplay:
    """Vote over at most `n` samples of each poll in random order, one at a time, until `rule` decides.

    A sample without an answer counts as drawn. Raises ValueError if `polls` is empty, if polls differ in size, or if `n`
    exceeds that size.
    """
    available = _size(polls)
    most = available if n is None else n
    if not 1 <= most <= available:
        raise ValueError(f"n must be from 1 to {available}, not {n}")
    chance = random.Random(seed)  # noqa: S311 - statistics, not secrets
    accuracies, drawn = [], []
    for poll in polls:
        runs = [
            _vote(
                poll, chance.sample(range(available), available)[:most], rule or NoEarlyStopping()
            )
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
    """Return the share of correct samples among the leading classes, by samples."""
    votes = [at for at in samples if poll.classes[at] is not None]
    counts = Counter(poll.classes[at] for at in votes)
    most = max(counts.values(), default=0)
    leading = [at for at in votes if counts[poll.classes[at]] == most]
    return sum(poll.correct[at] for at in leading) / len(leading) if leading else 0.0


def _size(polls: Sequence[Poll]) -> int:
    sizes = {len(poll.classes) for poll in polls}
    if len(sizes) != 1:
        raise ValueError(f"polls must not be empty and must be of one size, not {sorted(sizes)}")
    return sizes.pop()
