"""Confidence of the tokens of a draft, and when it is too low to continue: DeepConf (arXiv 2508.15260). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from secondpass.strategies.api.ranking import quantile
from secondpass.strategies.voting.stopping import leading_counts

TOP_LOGPROBS = 20
"""The most probable tokens that a confidence is read from, as in the paper."""


def lowest_group_confidence(confidences: Sequence[float], group: int) -> float | None:
    """The lowest mean over `group` tokens in a row, over all tokens where there are fewer; None without any."""
    if not confidences:
        return None
    width = min(group, len(confidences))
    total = math.fsum(confidences[:width])
    lowest = total
    for at in range(width, len(confidences)):
        total += confidences[at] - confidences[at - width]
        lowest = min(lowest, total)
    return max(0.0, lowest / width)


@dataclass
class OnlineRule:
    """DeepConf online: the first `warm_up` finished drafts set a threshold, and later ones below it are aborted.

    The threshold is the quantile 1 - `keep` of their lowest groups of `group` tokens: `keep` 0.9 is the paper's mild
    setting, 0.1 its hard one. During the warm-up there is none.
    """

    warm_up: int
    group: int
    keep: float
    _lowest: list[float] = field(default_factory=list)
    _threshold: float | None = None

    def learn(self, confidences: Sequence[float]) -> None:
        """Add a finished draft to the warm-up; after the warm-up this has no effect."""
        lowest = lowest_group_confidence(confidences, self.group)
        if self._threshold is not None or lowest is None:
            return
        self._lowest.append(lowest)
        if len(self._lowest) >= self.warm_up:
            self._threshold = quantile(self._lowest, 1 - self.keep)

    def is_weak(self, confidences: Sequence[float]) -> bool:
        """True when the mean over the last whole group of tokens is below the threshold."""
        if self._threshold is None or len(confidences) < self.group:
            return False
        return math.fsum(confidences[-self.group :]) / self.group < self._threshold


@dataclass(frozen=True, slots=True)
class ShareRule:
    """DeepConf's consensus: stop when the leader has at least `share` (0 to 1) of at least `min_ballots` ballots."""

    share: float
    min_ballots: int

    def is_decided(self, ballots: Sequence[int | None], left: int) -> bool:
        """See `voting.StoppingRule`; samples without an answer count in neither."""
        cast = sum(ballot is not None for ballot in ballots)
        first, _ = leading_counts(ballots)
        return cast >= self.min_ballots and first >= self.share * cast
