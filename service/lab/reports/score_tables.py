"""Tables of recorded samples: best of n by a score, and one recorded revision."""

from __future__ import annotations

from collections.abc import Sequence

from secondpass.service.lab.evaluation.intervals import Estimate, bootstrap, mean, paired_difference
from secondpass.service.lab.evaluation.recorded_sets import RevisionSet, VoteSet
from secondpass.service.lab.evaluation.scores import aurc, auroc, ece
from secondpass.service.lab.evaluation.selection import gap_closed
from secondpass.service.lab.evaluation.turns import (
    change,
    count_verdicts,
    decompose,
    feedback_resistance,
)
from secondpass.service.lab.evaluation.votes import Poll, any_correct, majority
from secondpass.service.lab.reports import markdown

_SCORES = """\
Best of n chooses the sample with the highest score; a sample without an answer cannot be chosen. The difference is from the majority, in
percentage points with a 95% bootstrap interval. "Gap closed" is the share of the gap between the majority and an oracle. AUROC (ties
count half), ECE (10 bins, only for scores from 0 to 1) and AURC are over single samples with an answer."""
_SCORE_HEADINGS = ("recorded set", "score", "best of n, %", "difference", "gap closed", "AUROC", "ECE", "AURC")  # fmt: skip
_REVISION_HEADINGS = (
    "recorded set", "revision", "questions", "turn 1, %", "turn 2, %", "difference", "i→c, %", "c→i, %", "CL", "CS", "RSS", "critic accuracy",
    "resistance"
)  # fmt: skip
_REVISIONS = """\
Percentages are shares of all questions. The difference is in percentage points with a 95% bootstrap interval. i→c and c→i are answers that
changed from incorrect to correct, or from correct to incorrect. CL is the probability that a correct answer stays correct, CS that an
incorrect one becomes correct (arXiv 2412.19513). RSS scales the accuracy of turn 2 from 0 (acc1²) to 1 (1 - (1 - acc1)²); acc1 is that of
turn 1. Critic accuracy is the share of correct verdicts on the first answer. Resistance is the share of lasting errors for which all feedback was correct, our
operational form of a category of arXiv 2506.11930."""
_BY_TESTS = """\
Feedback from unit tests is correct by definition, so every lasting error counts as resistance. Only failed answers are revised, so no
correct answer can break. The figures are therefore an upper bound for a model that judges itself."""


def score_blocks(sets: Sequence[VoteSet]) -> list[str]:
    """Return best of n by each recorded score, with discrimination and calibration."""
    rows = [_score_row(each, name) for each in sets for name in each.scores]
    return [_SCORES, markdown.table(_SCORE_HEADINGS, rows, names=2)]


def revision_blocks(sets: Sequence[RevisionSet]) -> list[str]:
    """Return the metrics of revision for recorded two-turn chains."""
    rows = [_revision_row(each, way) for each in sets for way in each.chains]
    return [_REVISIONS, markdown.table(_REVISION_HEADINGS, rows, names=2), _BY_TESTS]


def _score_row(each: VoteSet, name: str) -> tuple[str, ...]:
    items = [_Scored(poll, scores) for poll, scores in zip(each.polls, each.scores[name], strict=True)]  # fmt: skip
    best = [item.best for item in items]
    vote = [majority(poll) for poll in each.polls]
    flat = [(score, ok) for item in items for score, ok in item.answered]
    scores, correct = [score for score, _ in flat], [ok for _, ok in flat]
    discrimination = bootstrap(items, _pooled_auroc, resamples=500)
    is_confidence = all(0 <= score <= 1 for score in scores)
    gap = gap_closed(mean(best), mean(vote), mean([any_correct(poll) for poll in each.polls]))
    return (
        each.name,
        name,
        f"{100 * mean(best):.1f}",
        markdown.points(paired_difference(best, vote)),
        markdown.share(gap),
        _plain(discrimination),
        markdown.share(ece(scores, correct)) if is_confidence else "",
        markdown.share(aurc(scores, correct)),
    )


class _Scored:
    """The scored samples of a poll that have an answer."""

    def __init__(self, poll: Poll, scores: Sequence[float]) -> None:
        triples = zip(poll.classes, scores, poll.correct, strict=True)
        self.answered = [(score, ok) for ballot, score, ok in triples if ballot is not None]

    @property
    def best(self) -> float:
        """Expected accuracy of the sample with the highest score; 0 without an answer."""
        top = max((score for score, _ in self.answered), default=0.0)
        tied = [ok for score, ok in self.answered if score == top]
        return sum(tied) / len(tied) if tied else 0.0


def _pooled_auroc(items: Sequence[_Scored]) -> float:
    """Return the AUROC over all samples; 0.5 if all are correct or all are incorrect."""
    flat = [pair for item in items for pair in item.answered]
    area = auroc([score for score, _ in flat], [ok for _, ok in flat])
    return 0.5 if area is None else area


def _plain(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}..{estimate.high:.2f}]"


def _revision_row(each: RevisionSet, way: str) -> tuple[str, ...]:
    chains = each.chains[way]
    truth = [[turn.correct for turn in chain] for chain in chains]
    made = change(truth)
    parts = decompose([[(chain[0], chain[-1])] for chain in truth])
    gained = paired_difference([float(c[-1]) for c in truth], [float(c[0]) for c in truth])
    critic = count_verdicts(chain[0] for chain in chains)
    return (
        each.name,
        way,
        str(len(chains)),
        f"{100 * made.before:.1f}",
        f"{100 * made.after:.1f}",
        markdown.points(gained),
        f"{100 * made.fixed:.1f}",
        f"{100 * made.broken:.1f}",
        markdown.share(parts.cl),
        markdown.share(parts.cs),
        markdown.share(parts.rss),
        markdown.share(critic.accuracy),
        markdown.share(feedback_resistance(chains)),
    )
