"""Runs of several files in one table: together where they are one experiment, and apart where they are not."""

from pathlib import Path

import pytest

from secondpass.service.evaluation.frontier import points_of
from secondpass.service.evaluation.records import About, Attempt, Records
from secondpass.service.evaluation.results_runs import frontier_rows, gather
from secondpass.service.pools.jsonl import BadLine


def records(*questions: str, calibration: str = "", strategy: str = "self_prm") -> Records:
    attempts = [Attempt(question=each, strategy=strategy, correct=True) for each in questions]
    return Records(
        about=About(data="sums", model="tiny", calibration=calibration), attempts=tuple(attempts)
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


def test_a_cost_that_nobody_knows_is_no_figure_and_no_ground_for_a_comparison() -> None:
    votes = [
        Attempt(question=each, strategy="self_consistency", setting=setting, correct=True)
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
