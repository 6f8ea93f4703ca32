"""Grouping of run records from several files, and the tables of scores and turns."""

from pathlib import Path

import pytest

from secondpass.service.lab.evaluation.frontier import points_of
from secondpass.service.lab.evaluation.records import (
    GradedCandidate,
    RecordHeader,
    Records,
    RunRecord,
    Turn,
)
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.reports.confidence_tables import score_blocks
from secondpass.service.lab.reports.run_tables import frontier_rows, group_records
from secondpass.service.lab.reports.turn_tables import turn_blocks


def records(
    *questions: str, calibration: str = "", strategy: str = "self_prm", sampling: str = ""
) -> Records:
    runs = [RunRecord(question=each, strategy=strategy, correct=True) for each in questions]
    return Records(
        about=RecordHeader(data="sums", model="tiny", calibration=calibration, sampling=sampling),
        runs=tuple(runs),
    )


def names(*files: Records) -> list[str]:
    (runs,) = group_records((Path(str(at)), each) for at, each in enumerate(files))
    return [record.name for record in runs.records]


def test_a_setting_with_and_without_a_calibration_is_two_settings() -> None:
    known, other = records("a", calibration="AUROC 0.9"), records("a", calibration="AUROC 0.7")
    plain = records("a", "b")
    assert names(plain, known) == ["self_prm", "self_prm", "self_prm (AUROC 0.9)"]
    assert names(known, other) == ["self_prm (AUROC 0.9)", "self_prm (AUROC 0.7)"]


def test_a_unique_calibration_is_not_part_of_the_name() -> None:
    vote = records("a", strategy="self_consistency")
    assert names(records("a", calibration="AUROC 0.9"), vote) == ["self_prm", "self_consistency"]
    assert names(records("a", calibration="x"), records("b", calibration="x")) == ["self_prm"] * 2


def test_one_setting_must_have_one_sampling() -> None:
    warm, hot = records("a", sampling="temperature=0.7"), records("b", sampling="temperature=1.0")
    with pytest.raises(BadLine, match=r"^1: sampling: self_prm has 'temperature=1\.0' but .* in 0"):
        names(warm, hot)
    assert names(warm, records("b", strategy="single", sampling="temperature=1.0"))


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_each_kind_of_score_is_measured_separately() -> None:
    """Vote shares of 0.9 are correct and of 0.6 wrong; the judge's scores are inverted."""
    runs = [
        RunRecord(
            question=str(at), strategy="meta_rm", correct=ok, confidence=0.9 if ok else 0.6,
            confidence_kind="vote_share",
            candidates=(
                GradedCandidate(correct=ok, score=0.2 if ok else 3, score_kind="review_score"),
                GradedCandidate(correct=ok, score=1, score_kind="vote_share"), GradedCandidate(correct=ok),
            ),
        )
        for at, ok in enumerate((True, False))
    ]  # fmt: skip
    explanation, table = score_blocks([("meta_rm", runs), ("single", [])])
    assert "AUROC" in explanation
    assert cells(table)[2:] == [
        ["`meta_rm`", "vote_share", "answer", "2", "1.000", "0.350", "0.250"],
        ["`meta_rm`", "review_score", "candidates", "2", "0.000", "", "0.750"],
    ]
    assert score_blocks([("single", [])]) == []


def test_accuracy_after_each_turn_of_long_chains() -> None:
    def record(*turns: bool) -> RunRecord:
        chain = tuple(Turn(correct=each) for each in turns)
        return RunRecord(question="a", strategy="s", correct=turns[-1], turns=chain)

    longer = [record(False, True, False), record(False, True)]
    *_, table = turn_blocks([("s", longer), ("two", [record(False, True)])])
    assert cells(table)[0] == ["accuracy, %", "turn 1", "turn 2", "turn 3"]
    assert cells(table)[2:] == [["`s`", "0.0", "100.0", "50.0"]]
    assert len(turn_blocks([("two", [record(False, True)])])) == 2


def test_unknown_costs_give_neither_figures_nor_comparisons() -> None:
    votes = [
        RunRecord(question=each, strategy="self_consistency", setting=setting, correct=True)
        for each in "ab"
        for setting in ("n=4", "n=4 stop=lead")
    ]
    about = RecordHeader(data="sums", model="tiny")
    (runs,) = group_records([(Path("0"), Records(about=about, runs=tuple(votes)))])
    rows = frontier_rows(runs, points_of(runs.records))
    assert [row[3:5] for row in rows] == [("", "")] * 2
    assert [row[6:] for row in rows] == [("", "", "", "", "", "0")] * 2


def test_a_duplicate_run_is_reported_with_both_files() -> None:
    with pytest.raises(BadLine, match=r"^1: question 'a', self_prm, .*is also in 0"):
        names(records("a", calibration="x"), records("a", calibration="x"))
