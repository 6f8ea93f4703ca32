"""What recorded samples say of choosing by a score, and of asking for one revision."""

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
Best of n by score; a sample without an answer cannot be chosen. The difference is to the majority, in points; the gap is the share of
(any right - majority) that is closed. AUROC (ties half), ECE (10 bins, confidences only) and AURC are over single samples with an answer."""
_REVISION_HEADINGS = (
    "set", "revision", "questions", "turn 1", "turn 2", "difference", "i→c", "c→i", "CL", "CS", "RSS", "critic", "resistance"
)  # fmt: skip
_REVISIONS = """\
Shares of all questions in %, the difference in points. CL: a right answer stays right; CS: a wrong one is put right (arXiv 2412.19513).
Critic: the share of right verdicts on the first answer. Resistance: the share of lasting errors with right feedback all along, our
operational form of a category of arXiv 2506.11930."""
_BY_TESTS = """\
Feedback from unit tests is right by definition, so every lasting error is resistance; and where only failed answers are revised, nothing
can break. These figures are what revising is worth with an oracle at hand, an upper bound for a model that judges itself."""


def score_section(sets: Sequence[VoteSet]) -> str:
    """What choosing by a score is worth, and whether the score tells right from wrong."""
    rows = [_score_row(each, name) for each in sets for name in each.scores]
    return "\n\n".join(
        (
            "### Choosing by a score",
            _SCORES,
            markdown.table(
                ("set", "score", "best of n", "difference", "gap closed", "AUROC", "ECE", "AURC"),
                rows,
                names=2,
            ),
        )
    )


def revision_section(sets: Sequence[RevisionSet]) -> str:
    """The metrics of turns for recorded revisions."""
    rows = [_revision_row(each, way) for each in sets for way in each.chains]
    return "\n\n".join(
        (
            "### One revision, recorded",
            _REVISIONS,
            markdown.table(_REVISION_HEADINGS, rows, names=2),
            _BY_TESTS,
        )
    )


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
    """A poll's samples with an answer and their scores."""

    def __init__(self, poll: Poll, scores: Sequence[float]) -> None:
        triples = zip(poll.classes, scores, poll.correct, strict=True)
        self.answered = [(score, ok) for ballot, score, ok in triples if ballot is not None]

    @property
    def best(self) -> float:
        """The expected accuracy of the sample with the highest score; 0 without an answer."""
        top = max((score for score, _ in self.answered), default=0.0)
        tied = [ok for score, ok in self.answered if score == top]
        return sum(tied) / len(tied) if tied else 0.0


def _pooled_auroc(items: Sequence[_Scored]) -> float:
    """The AUROC over all samples; one half where one kind is missing, which tells nothing."""
    flat = [pair for item in items for pair in item.answered]
    made = auroc([score for score, _ in flat], [ok for _, ok in flat])
    return 0.5 if made is None else made


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
