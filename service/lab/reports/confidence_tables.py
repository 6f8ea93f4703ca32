"""Whether what runs said of how sure they were, or a judge of a candidate, tells right from wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from secondpass.service.lab.evaluation.run_record import RunRecord
from secondpass.service.lab.evaluation.scores import aurc, auroc, ece
from secondpass.service.lab.reports import markdown
from secondpass.service.lab.reports.turn_tables import Tried

_SCORES = """\
Scores by their kind, of the final answer as its confidence, and of single candidates where a judge graded these: AUROC (ties half), ECE (10 bins,
scores from 0 to 1 only) and AURC."""
_HEADINGS = ("strategy", "score", "of", "scored", "AUROC", "ECE", "AURC")
_OF_MANY = "vote_share"
"""How kinds of scores end that a vote gave to an answer, and nobody to a candidate by itself."""

Key = tuple[str, str]
Scored = tuple[float, bool]


def score_blocks(tried: Iterable[Tried]) -> list[str]:
    """The table with what it is, or nothing where nothing was scored."""
    rows = [row for name, attempts in tried for row in _rows(name, attempts)]
    return [_SCORES, markdown.table(_HEADINGS, rows, names=3)] if rows else []


def _rows(name: str, attempts: Sequence[RunRecord]) -> Iterator[tuple[str, ...]]:
    found: dict[Key, list[Scored]] = {}
    for key, scored in _scored(attempts):
        found.setdefault(key, []).append(scored)
    for (kind, whose), pairs in found.items():
        scores, correct = [score for score, _ in pairs], [ok for _, ok in pairs]
        is_confidence = all(0 <= score <= 1 for score in scores)
        yield (
            f"`{name}`",
            kind,
            whose,
            str(len(pairs)),
            markdown.share(auroc(scores, correct)),
            markdown.share(ece(scores, correct)) if is_confidence else "",
            markdown.share(aurc(scores, correct)),
        )


def _scored(attempts: Iterable[RunRecord]) -> Iterator[tuple[Key, Scored]]:
    for attempt in attempts:
        if attempt.confidence is not None:
            yield (attempt.confidence_kind or "", "answer"), (attempt.confidence, attempt.correct)
        for each in attempt.candidates:
            kind = each.score_kind or ""
            if each.score is not None and not kind.endswith(_OF_MANY):
                yield (kind, "candidates"), (each.score, each.correct)
