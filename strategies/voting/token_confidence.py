"""Token confidence of drafts, and abortion of drafts with low confidence: DeepConf (arXiv 2508.15260)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from secondpass.strategies.api.ranking import quantile
from secondpass.strategies.voting.stopping import leading_counts

TOP_LOGPROBS = 20
"""Number of most probable tokens that determine a confidence, as in the paper."""


def lowest_group_confidence(confidences: Sequence[float], group: int) -> float | None:
    """Return the lowest mean confidence of `group` consecutive tokens.

    The mean of all tokens if there are fewer; None without tokens.
    """
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
class ConfidenceThreshold:
    """DeepConf online: abort drafts below a confidence threshold that a warm-up determines.

    No draft is aborted during the warm-up.

    Attributes:
        warm_up: Number of finished drafts that determine the threshold.
        group: Number of consecutive tokens that are averaged.
        keep: Share (0 to 1) of drafts to keep. The threshold is the quantile 1 - `keep` of the lowest group confidences of
            the warm-up. The paper's mild setting is 0.9, its hard one 0.1.
    """

    warm_up: int
    group: int
    keep: float
    _lowest: list[float] = field(default_factory=list)
    _threshold: float | None = None

    def learn(self, confidences: Sequence[float]) -> None:
        """Add a finished draft to the warm-up; no effect after it."""
        lowest = lowest_group_confidence(confidences, self.group)
        if self._threshold is not None or lowest is None:
            return
        self._lowest.append(lowest)
        if len(self._lowest) >= self.warm_up:
            self._threshold = quantile(self._lowest, 1 - self.keep)

    def is_weak(self, confidences: Sequence[float]) -> bool:
        """Return True if the mean confidence of the last `group` tokens is below the threshold."""
        if self._threshold is None or len(confidences) < self.group:
            return False
        return math.fsum(confidences[-self.group :]) / self.group < self._threshold


@dataclass(frozen=True, slots=True)
class ShareRule:
    """DeepConf's consensus: stop when the leader has `share` (0 to 1) of at least `min_ballots` ballots."""

    share: float
    min_ballots: int

    def is_decided(self, ballots: Sequence[int | None], remaining: int) -> bool:
        """See `StoppingRule`; samples without an answer are not ballots."""
        cast = sum(ballot is not None for ballot in ballots)
        first, _ = leading_counts(ballots)
        return cast >= self.min_ballots and first >= self.share * cast
