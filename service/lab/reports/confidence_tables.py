"""Discrimination and calibration of the scores in run records, by kind of score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from secondpass.service.lab.evaluation.run_record import RunRecord
from secondpass.service.lab.evaluation.scores import aurc, auroc, ece
from secondpass.service.lab.reports import markdown
from secondpass.service.lab.reports.turn_tables import NamedRecords

_EXPLANATION = """\
Each kind of score is measured on its own. "answer" is the score of the final answer, used as its confidence. "candidates" are the scores
that a judge gave to single candidates. Metrics: AUROC (ties count half), ECE (10 bins, only for scores from 0 to 1), and AURC."""
_HEADINGS = ("strategy", "score", "scored items", "count", "AUROC", "ECE", "AURC")
_VOTE_SUFFIX = "vote_share"
"""Suffix of the kinds of scores that belong to an answer class and not to a single candidate."""

_Key = tuple[str, str]
_Scored = tuple[float, bool]


def score_blocks(named: Iterable[NamedRecords]) -> list[str]:
    """Return the explanation and the table; an empty list if nothing was scored."""
    rows = [row for name, records in named for row in _rows(name, records)]
    return [_EXPLANATION, markdown.table(_HEADINGS, rows, names=3)] if rows else []


def _rows(name: str, records: Sequence[RunRecord]) -> Iterator[tuple[str, ...]]:
    found: dict[_Key, list[_Scored]] = {}
    for key, scored in _scored(records):
        found.setdefault(key, []).append(scored)
    for (kind, items), pairs in found.items():
        scores, correct = [score for score, _ in pairs], [ok for _, ok in pairs]
        is_confidence = all(0 <= score <= 1 for score in scores)
        yield (
            f"`{name}`",
            kind,
            items,
            str(len(pairs)),
            markdown.share(auroc(scores, correct)),
            markdown.share(ece(scores, correct)) if is_confidence else "",
            markdown.share(aurc(scores, correct)),
        )


def _scored(records: Iterable[RunRecord]) -> Iterator[tuple[_Key, _Scored]]:
    for record in records:
        if record.confidence is not None:
            yield (record.confidence_kind or "", "answer"), (record.confidence, record.correct)
        for candidate in record.candidates:
            kind = candidate.score_kind or ""
            if candidate.score is not None and not kind.endswith(_VOTE_SUFFIX):
                yield (kind, "candidates"), (candidate.score, candidate.correct)
