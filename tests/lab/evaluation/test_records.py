"""Run records: files, construction from responses and outcomes, and invalid lines."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.cli.main import main
from secondpass.service.http.encoding import jsonable, usage_document
from secondpass.service.lab.evaluation.records import (
    GradedCandidate,
    RecordHeader,
    Records,
    RunRecord,
    Tokens,
    Turn,
    from_outcome,
    from_response,
    read_records,
    record_line,
    write_records,
)
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.runs.outcome import Outcome, RoleUsage, Timing
from secondpass.strategies.api.values import Candidate

ABOUT = RecordHeader(data="sums", model="tiny", date="2026-11-24")
GOOD = RunRecord(question="q1", strategy="single", correct=True)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
RECORDS = st.builds(
    RunRecord,
    question=TEXT,
    strategy=TEXT,
    correct=st.booleans(),
    turns=st.lists(st.builds(Turn, correct=st.booleans(), accepted=st.none() | st.booleans())).map(
        tuple
    ),
    candidates=st.lists(
        st.builds(GradedCandidate, correct=st.booleans(), answer=st.none() | TEXT, score=st.none() | FINITE)
    ).map(tuple),
    usage=st.builds(Tokens, decode=st.integers(0, 9), prompt=st.integers(5, 9), cached=st.integers(0, 5)),
    seconds=st.floats(0, 1e6),
    confidence=st.none() | st.floats(0, 1),
)  # fmt: skip


def outcome() -> Outcome:
    """An outcome whose draft 0 was revised twice, the first revision being correct; draft 1 is a sibling."""
    texts = [(0, "a", "1"), (1, "b", None), (0, "c", "2"), (0, "d", "3")]
    candidates = [Candidate(text=t, answer=a, index=i, tokens=4) for i, t, a in texts]
    return Outcome(
        candidate=Candidate(text="c", answer="2", score=0.75, score_kind="judge_score"),
        stop_reason="finished",
        usage={
            "actor": RoleUsage(calls=3, prompt=30, cached=10, completion=12, wasted=2),
            "critic": RoleUsage(calls=1, prompt=20, cached=0, completion=5),
        },
        budget={},
        timing=Timing(total=1234.5678, queue=0, engine=1000, orchestration=234),
        candidates=candidates,
    )


def response(of: Outcome) -> dict[str, Any]:
    return {
        "strategy": "self_refine",
        "text": of.candidate.text,
        "answer": of.candidate.answer,
        "confidence": of.confidence,
        "confidence_kind": of.confidence_kind,
        "stop_reason": of.stop_reason,
        "usage": usage_document(of.usage),
        "timing": jsonable(of.timing) | {"total": round(of.timing.total, 3)},
        "candidates": jsonable(of.candidates),
    }


def test_a_response_and_its_outcome_have_the_same_record() -> None:
    compared: list[str] = []

    def is_correct(answer: str, gold: str) -> bool:
        compared.append(answer)
        return answer == gold

    made = from_response(response(outcome()), "2", is_correct, question="q", setting="n=2")
    assert made == from_outcome(
        outcome(), "2", is_correct, question="q", strategy="self_refine", setting="n=2"
    )
    assert sorted(compared) == ["1", "1", "2", "2", "3", "3"], (
        "a missing answer is wrong without a comparison"
    )
    assert made.correct
    assert [turn.correct for turn in made.turns] == [False, True, False]
    assert [each.correct for each in made.candidates] == [False, False, True, False]
    assert made.usage == Tokens(decode=17, prompt=50, cached=10, wasted=2)
    assert made.usage.uncached == 40
    assert made.seconds == pytest.approx(1.234568)
    assert (made.confidence, made.confidence_kind) == (0.75, "judge_score")


def test_a_response_without_candidates_is_rejected() -> None:
    document = response(outcome())
    del document["candidates"]
    with pytest.raises(ValueError, match=r'candidates: missing.*trace "summary"'):
        from_response(document, "2", str.__eq__, question="q")


@given(st.lists(RECORDS, unique_by=lambda each: (each.question, each.strategy)))
def test_records_round_trip(tmp_path_factory: Any, records: list[RunRecord]) -> None:
    path = tmp_path_factory.mktemp("records") / "x.records.jsonl"
    write_records(path, ABOUT, records)
    assert read_records(path) == Records(about=ABOUT, runs=tuple(records))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"question":1,"strategy":"s","correct":true}', ":3: question: "),
        ('{"question":"q","strategy":"s"}', ":3: correct: "),
        ('{"question":"q","strategy":"s","correct":true,"zz":1}', ":3: zz: "),
        ('{"question":"q","strategy":"s","correct":true,"usage":{"decode":-1}}', ":3: usage.decode: "),
        ('{"question":"q","strategy":"s","correct":true,"usage":{"cached":1}}', ":3: usage.*cached"),
        ('{"question":"q","strategy":"s","correct":true,"confidence":1.5}', ":3: confidence: "),
        ('{"question":"q","strategy":"s","correct":true,"seconds":NaN}', ":3: "),
        ('{"question":"q","stra', ":3: invalid JSON"),
        (record_line(GOOD), ":3: question 'q1', single, shuffle 0 is already in line 2"),
    ],
)  # fmt: skip
def test_an_invalid_line_is_reported_with_its_field(
    tmp_path: Path, line: str, complaint: str
) -> None:
    path = tmp_path / "bad.records.jsonl"
    path.write_text(record_line(ABOUT) + record_line(GOOD) + line, "utf-8")
    with pytest.raises(BadLine, match=r"bad\.records\.jsonl" + complaint):
        read_records(path)


@pytest.mark.parametrize("first", ["", "{}", '{"question":"q"}', '{"about":{"data":"d"}}'])
def test_the_first_line_must_be_the_header(tmp_path: Path, first: str) -> None:
    path = tmp_path / "bad.records.jsonl"
    path.write_text(first, "utf-8")
    with pytest.raises(BadLine, match=r"records\.jsonl:1: (the first line must be|model: )"):
        read_records(path)


def test_record_of_a_document_printed_by_solve(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["solve", "What is 6 times 7?", "--strategy", "self_consistency", "--n", "3", "--task", "math"]  # fmt: skip
    embedded = ["--embedded", "--", "--engine", "scripted", "--model", "scripted"]
    assert main([*command, "--json", "--trace", *embedded]) == 0
    document = json.loads(capsys.readouterr().out)
    made = from_response(document, document["answer"], str.__eq__, question="q", setting="n=3")
    assert (made.name, made.correct) == ("self_consistency n=3", True)
    assert made.usage.decode == sum(usage["completion"] for usage in document["usage"].values()) > 0
    assert made.candidates
    assert [turn.correct for turn in made.turns] == [True]
    assert read_back(made) == made


def read_back(record: RunRecord) -> RunRecord:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.records.jsonl"
        write_records(path, ABOUT, [record])
        return read_records(path).runs[0]
