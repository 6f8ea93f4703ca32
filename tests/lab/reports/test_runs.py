"""Runs of several files in one table: together where they are one experiment, and apart where they are not."""

from pathlib import Path

import pytest

from secondpass.service.lab.evaluation.frontier import points_of
from secondpass.service.lab.evaluation.records import (
    About,
    GradedCandidate,
    Records,
    RunRecord,
    Turn,
)
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.reports.confidence_tables import score_blocks
from secondpass.service.lab.reports.run_tables import frontier_rows, gather
from secondpass.service.lab.reports.turn_tables import turn_blocks


def records(
    *questions: str, calibration: str = "", strategy: str = "self_prm", sampling: str = ""
) -> Records:
    attempts = [RunRecord(question=each, strategy=strategy, correct=True) for each in questions]
    return Records(
        about=About(data="sums", model="tiny", calibration=calibration, sampling=sampling),
        attempts=tuple(attempts),
    )


def names(*files: Records) -> list[str]:
    (runs,) = gather((Path(str(at)), each) for at, each in enumerate(files))
    return [attempt.name for attempt in runs.attempts]


def test_a_setting_with_a_calibration_and_without_is_two_settings() -> None:
    known, other = records("a", calibration="AUROC 0.9"), records("a", calibration="AUROC 0.7")
    plain = records("a", "b")
    assert names(plain, known) == ["self_prm", "self_prm", "self_prm (AUROC 0.9)"]
    assert names(known, other) == ["self_prm (AUROC 0.9)", "self_prm (AUROC 0.7)"]


def test_a_calibration_is_not_told_where_it_tells_nothing_apart() -> None:
    vote = records("a", strategy="self_consistency")
    assert names(records("a", calibration="AUROC 0.9"), vote) == ["self_prm", "self_consistency"]
    assert names(records("a", calibration="x"), records("b", calibration="x")) == ["self_prm"] * 2


def test_one_setting_is_drawn_in_one_way() -> None:
    warm, hot = records("a", sampling="temperature=0.7"), records("b", sampling="temperature=1.0")
    with pytest.raises(BadLine, match=r"^1: sampling: self_prm has 'temperature=1\.0', .* in 0"):
        names(warm, hot)
    assert names(warm, records("b", strategy="single", sampling="temperature=1.0"))


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_every_kind_of_score_is_measured_by_itself() -> None:
    """VoteSet are right at .9 and wrong at .6; of the judge's scores both are the wrong way round."""
    attempts = [
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
    words, table = score_blocks([("meta_rm", attempts), ("single", [])])
    assert "AUROC" in words
    assert cells(table)[2:] == [
        ["`meta_rm`", "vote_share", "answer", "2", "1.000", "0.350", "0.250"],
        ["`meta_rm`", "review_score", "candidates", "2", "0.000", "", "0.750"],
    ]
    assert score_blocks([("single", [])]) == []


def test_accuracy_is_told_after_every_turn_of_long_chains() -> None:
    def attempt(*turns: bool) -> RunRecord:
        chain = tuple(Turn(correct=each) for each in turns)
        return RunRecord(question="a", strategy="s", correct=turns[-1], turns=chain)

    longer = [attempt(False, True, False), attempt(False, True)]
    *_, table = turn_blocks([("s", longer), ("two", [attempt(False, True)])])
    assert cells(table)[0] == ["accuracy after, %", "turn 1", "turn 2", "turn 3"]
    assert cells(table)[2:] == [["`s`", "0.0", "100.0", "50.0"]]
    assert len(turn_blocks([("two", [attempt(False, True)])])) == 2


def test_a_cost_that_nobody_knows_is_no_figure_and_no_ground_for_a_comparison() -> None:
    votes = [
        RunRecord(question=each, strategy="self_consistency", setting=setting, correct=True)
        for each in "ab"
        for setting in ("n=4", "n=4 stop=lead")
    ]
    about = About(data="sums", model="tiny")
    (runs,) = gather([(Path("0"), Records(about=about, attempts=tuple(votes)))])
    rows = frontier_rows(runs, points_of(runs.attempts))
    assert [row[3:5] for row in rows] == [("", "")] * 2
    assert [row[6:] for row in rows] == [("", "", "", "", "", "0")] * 2


def test_one_run_twice_is_named_with_both_files() -> None:
    with pytest.raises(BadLine, match=r"^1: question 'a', self_prm, .*is in 0 too"):
        names(records("a", calibration="x"), records("a", calibration="x"))
