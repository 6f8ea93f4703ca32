"""Run records: built from responses and outcomes, written to and read from files.

A records file (`*.records.jsonl`) is JSON lines: first `{"about": {...}}`, then one run per line. Lines can be appended.
A partial line, left by a killed process, is an error when the file is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from secondpass.service.common import validation
from secondpass.service.common.events import CallFinished, Event
from secondpass.service.lab.evaluation.candidate_facts import (
    CandidateFacts,
    candidate_facts,
    revision_chain,
)
from secondpass.service.lab.evaluation.run_record import (
    GradedCandidate,
    RecordHeader,
    RunRecord,
    Tokens,
    Turn,
)
from secondpass.service.lab.pools.jsonl import BadLine, Row, read_rows
from secondpass.service.runs.outcome import Outcome
from secondpass.strategies.api.values import Candidate

__all__ = [
    "SUFFIX",
    "GradedCandidate",
    "IsCorrect",
    "RecordHeader",
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
"""(answer, gold answer) -> correct. It is never called without an answer, which is incorrect."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The runs of one file and its header."""

    about: RecordHeader
    runs: tuple[RunRecord, ...]


_ABOUT = TypeAdapter(RecordHeader)
_RUN = TypeAdapter(RunRecord)


def from_response(
    document: Mapping[str, Any],
    gold: str,
    is_correct: IsCorrect,
    *,
    question: str,
    setting: str = "",
    shuffle: int = 0,
) -> RunRecord:
    """Return the record of a POST /solve response with trace "summary" or "full".

    Raises ValueError if the response has no candidates to grade, as with trace "none".
    """
    if "candidates" not in document:
        raise ValueError('candidates: missing from the response; request it with trace "summary"')
    usages = document["usage"].values()
    return _record(
        Candidate(text=document["text"], answer=document["answer"]),
        [Candidate(**each) for each in document["candidates"]],
        lambda answer: is_correct(answer, gold),
        question=question,
        strategy=document["strategy"],
        setting=setting,
        shuffle=shuffle,
        usage=_tokens((u["completion"], u["prompt"], u["cached"], u["wasted"]) for u in usages),
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
    """Return the record of an outcome, equal to that of `from_response` for the same run.

    The run's `events` add which candidates are revisions and the critic's verdict on each.
    """
    usages = outcome.usage.values()
    return _record(
        outcome.candidate,
        outcome.candidates,
        lambda answer: is_correct(answer, gold),
        question=question,
        strategy=strategy,
        setting=setting,
        shuffle=shuffle,
        usage=_tokens((u.completion, u.prompt, u.cached, u.wasted) for u in usages),
        seconds=round(outcome.timing.total, 3) / 1e3,
        confidence=outcome.confidence,
        confidence_kind=outcome.confidence_kind,
        stop_reason=outcome.stop_reason,
        facts=candidate_facts(events, outcome.candidates),
    )


def used_tokens(events: Iterable[Event]) -> Tokens:
    """Return the token usage of a run's finished calls, without estimated usage."""
    calls = [e for e in events if isinstance(e, CallFinished) and not e.is_estimated]
    return _tokens(
        (call.usage.completion, call.usage.prompt, call.usage.cached, call.wasted) for call in calls
    )


def record_line(value: RunRecord | RecordHeader) -> str:
    """Return a line of a records file, with its newline; default values of a run are left out."""
    if isinstance(value, RecordHeader):
        return _dumps({"about": asdict(value)})
    return _dumps(_RUN.dump_python(value, mode="json", exclude_defaults=True))


def write_records(path: Path, about: RecordHeader, runs: Iterable[RunRecord]) -> None:
    """Write a records file, replacing an existing one."""
    with path.open("w", encoding="utf-8") as file:
        file.write(record_line(about))
        file.writelines(map(record_line, runs))


def read_records(path: Path) -> Records:
    """Read a records file. Raises BadLine for an invalid line or a duplicate run."""
    lines = read_rows(path)
    number, first = next(lines, (1, Row()))
    if list(first) != ["about"]:
        raise BadLine(path, number, 'the first line must be {"about": {...}}')
    about = _parsed(_ABOUT, path, number, first["about"])
    seen: dict[tuple[str, str, str, int], int] = {}
    runs = []
    for number, row in lines:
        run = _parsed(_RUN, path, number, row)
        if run.key in seen:
            raise BadLine(path, number, f"{run.label} is already in line {seen[run.key]}")
        seen[run.key] = number
        runs.append(run)
    return Records(about=about, runs=tuple(runs))


def _record(
    final: Candidate,
    candidates: Sequence[Candidate],
    grade: Callable[[str], bool],
    facts: Sequence[CandidateFacts] | None = None,
    **rest: Any,
) -> RunRecord:
    """Build a record and grade each distinct answer once.

    Without `facts`, revisions are found by the index shared with a draft.
    """
    answers = {each.answer for each in (final, *candidates)}
    right = {answer: answer is not None and grade(answer) for answer in answers}
    facts = facts or [CandidateFacts()] * len(candidates)
    chain = revision_chain(candidates, facts)
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
                accepted=facts[at].accepted,
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
                accepted=fact.accepted,
                is_revision=fact.is_revision,
            )
            for c, fact in zip(candidates, facts, strict=True)
        ),
        **rest,
    )


def _tokens(usages: Iterable[tuple[int, int, int, int]]) -> Tokens:
    decode, prompt, cached, wasted = (sum(kind) for kind in zip((0, 0, 0, 0), *usages, strict=True))
    return Tokens(decode=decode, prompt=prompt, cached=cached, wasted=wasted)


def _parsed(adapter: TypeAdapter[_T], path: Path, number: int, value: object) -> _T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise BadLine(path, number, f"{field}: {validation.message_with_value(first)}") from None


def _dumps(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
