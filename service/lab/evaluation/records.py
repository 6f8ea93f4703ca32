"""Attempts from runs, and as files: what was run once can be measured again without a model.

A records file (`*.records.jsonl`) is JSON lines: first `{"about": {...}}`, then one attempt a line. It can be
appended to while it grows, and a line that a kill cut in two is named when the file is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from secondpass.service.common.events import CallFinished, Event
from secondpass.service.lab.evaluation.candidate_facts import (
    CandidateFacts,
    candidate_facts,
    revision_chain,
)
from secondpass.service.lab.evaluation.run_record import (
    About,
    GradedCandidate,
    RunRecord,
    Tokens,
    Turn,
)
from secondpass.service.lab.pools.jsonl import BadLine, Row, read_rows
from secondpass.service.runs.outcome import Outcome
from secondpass.strategies.api.values import Candidate

__all__ = [
    "SUFFIX",
    "About",
    "GradedCandidate",
    "IsCorrect",
    "Records",
    "RunRecord",
    "Tokens",
    "Turn",
    "from_outcome",
    "from_response",
    "read_records",
    "record_line",
    "used_tokens",
    "write_records",
]  # fmt: skip

SUFFIX = ".records.jsonl"

IsCorrect = Callable[[str, str], bool]
"""Does an answer (first) mean the gold answer (second)? Never asked about no answer, which is wrong."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The attempts of one file, and where they come from."""

    about: About
    attempts: tuple[RunRecord, ...]


_ABOUT = TypeAdapter(About)
_ATTEMPT = TypeAdapter(RunRecord)


def from_response(
    document: Mapping[str, Any],
    gold: str,
    is_correct: IsCorrect,
    *,
    question: str,
    setting: str = "",
    shuffle: int = 0,
) -> RunRecord:
    """The attempt that an answer of POST /solve with trace "summary" or "full" tells of.

    Raises ValueError when it has no candidates to grade, which is so with trace "none".
    """
    if "candidates" not in document:
        raise ValueError('candidates: missing from the response; ask for it with trace "summary"')
    bills = document["usage"].values()
    return _attempt(
        Candidate(text=document["text"], answer=document["answer"]),
        [Candidate(**each) for each in document["candidates"]],
        lambda answer: is_correct(answer, gold),
        question=question,
        strategy=document["strategy"],
        setting=setting,
        shuffle=shuffle,
        usage=_tokens((b["completion"], b["prompt"], b["cached"], b["wasted"]) for b in bills),
        seconds=document["timing"]["total"] / 1e3,
        confidence=document["confidence"],
        confidence_kind=document["confidence_kind"],
        stop_reason=document["stop_reason"],
    )


def from_outcome(
    outcome: Outcome,
    gold: str,
    is_correct: IsCorrect,
    *,
    question: str,
    strategy: str,
    setting: str = "",
    shuffle: int = 0,
    events: Sequence[Event] = (),
) -> RunRecord:
    """The attempt that an outcome tells of; what `from_response` gives for the same run, to the microsecond.

    The run's `events` tell besides which candidates are revisions, and what a critic said of each.
    """
    bills = outcome.usage.values()
    return _attempt(
        outcome.candidate,
        outcome.candidates,
        lambda answer: is_correct(answer, gold),
        question=question,
        strategy=strategy,
        setting=setting,
        shuffle=shuffle,
        usage=_tokens((b.completion, b.prompt, b.cached, b.wasted) for b in bills),
        seconds=round(outcome.timing.total, 3) / 1e3,
        confidence=outcome.confidence,
        confidence_kind=outcome.confidence_kind,
        stop_reason=outcome.stop_reason,
        told=candidate_facts(events, outcome.candidates),
    )


def used_tokens(events: Iterable[Event]) -> Tokens:
    """What the calls of a run had used when it ended, however it did; what is only estimated is not in it."""
    calls = [e for e in events if isinstance(e, CallFinished) and not e.is_estimated]
    return _tokens(
        (call.usage.completion, call.usage.prompt, call.usage.cached, call.wasted) for call in calls
    )


def record_line(value: RunRecord | About) -> str:
    """A line of a records file, newline included; what has its default is left out of an attempt."""
    if isinstance(value, About):
        return _dumps({"about": asdict(value)})
    return _dumps(_ATTEMPT.dump_python(value, mode="json", exclude_defaults=True))


def write_records(path: Path, about: About, attempts: Iterable[RunRecord]) -> None:
    """Write a records file in place of whatever was at `path`."""
    with path.open("w", encoding="utf-8") as file:
        file.write(record_line(about))
        file.writelines(map(record_line, attempts))


def read_records(path: Path) -> Records:
    """The records of a file. Raises BadLine naming line and field; also for an attempt that is there twice."""
    lines = read_rows(path)
    number, first = next(lines, (1, Row()))
    if list(first) != ["about"]:
        raise BadLine(path, number, 'the first line must be {"about": {...}}')
    about = _parsed(_ABOUT, path, number, first["about"])
    seen: dict[tuple[str, str, str, int], int] = {}
    attempts = []
    for number, row in lines:
        attempt = _parsed(_ATTEMPT, path, number, row)
        if attempt.key in seen:
            raise BadLine(path, number, f"{attempt.label} is in line {seen[attempt.key]} already")
        seen[attempt.key] = number
        attempts.append(attempt)
    return Records(about=about, attempts=tuple(attempts))


def _attempt(
    final: Candidate,
    candidates: Sequence[Candidate],
    grade: Callable[[str], bool],
    told: Sequence[CandidateFacts] | None = None,
    **rest: Any,
) -> RunRecord:
    """Grade each distinct answer once; what is not `told` of revisions is by the index that they share with a draft."""
    answers = {each.answer for each in (final, *candidates)}
    right = {answer: answer is not None and grade(answer) for answer in answers}
    told = told or [CandidateFacts()] * len(candidates)
    chain = revision_chain(candidates, told)
    if chain is None:
        chosen = next((c.index for c in reversed(candidates) if c.text == final.text), final.index)
        chain = [at for at, each in enumerate(candidates) if each.index == chosen]
    return RunRecord(
        correct=right[final.answer],
        answer=final.answer,
        turns=tuple(
            Turn(
                correct=right[candidates[at].answer],
                answer=candidates[at].answer,
                accepted=told[at].accepted,
            )
            for at in chain
        ),
        candidates=tuple(
            GradedCandidate(
                correct=right[c.answer],
                answer=c.answer,
                score=c.score,
                score_kind=c.score_kind,
                tokens=c.tokens,
                accepted=what.accepted,
                is_revision=what.is_revision,
            )
            for c, what in zip(candidates, told, strict=True)
        ),
        **rest,
    )


def _tokens(bills: Iterable[tuple[int, int, int, int]]) -> Tokens:
    decode, prompt, cached, wasted = (sum(kind) for kind in zip((0, 0, 0, 0), *bills, strict=True))
    return Tokens(decode=decode, prompt=prompt, cached=cached, wasted=wasted)


def _parsed(adapter: TypeAdapter[_T], path: Path, number: int, value: object) -> _T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise BadLine(path, number, f"{field}: {first['msg']}") from None


def _dumps(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
