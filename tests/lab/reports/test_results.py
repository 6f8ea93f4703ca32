"""The documents: written between their markers from whatever is found, and refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from secondpass.service.cli.main import main
from secondpass.service.lab.evaluation.intervals import Estimate
from secondpass.service.lab.evaluation.recorded_sets import RevisionSet, VoteSet, read_recorded_set
from secondpass.service.lab.evaluation.records import (
    About,
    GradedCandidate,
    RunRecord,
    Tokens,
    Turn,
    write_records,
)
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.reports.markdown import NoMarkers, between_markers, points, table

SAMPLES = [{"pred": "4", "correct": True, "p_true": 0.9}, {"pred": None, "correct": False, "p_true": 0.2},
           {"pred": "4", "correct": True, "p_true": 0.4}, {"pred": "5", "correct": False, "p_true": 0.6}]  # fmt: skip
VOTES = [{"id": f"q{at}", "model": "tiny", "samples": SAMPLES} for at in range(6)]
REVISIONS = [
    {"id": f"q{at}", "initial": {"correct": at == 0, "code": "a", "feedback": {"error_message": None if at == 0 else "5 != 4"}},
     "repair_direct": {"correct": at < 2, "code": "b"}}
    for at in range(4)
]  # fmt: skip


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def runs(path: Path) -> None:
    def attempt(strategy: str, setting: str, at: int, decode: int, **more: Any) -> RunRecord:
        return RunRecord(question=f"q{at}", strategy=strategy, setting=setting, usage=Tokens(decode=decode, prompt=50, cached=10), seconds=1, **more)  # fmt: skip

    candidates = (GradedCandidate(correct=True), GradedCandidate(correct=False))
    attempts = [attempt("self_consistency", f"n={n}", at, 100 * n, correct=at < n, candidates=candidates) for n in (1, 4) for at in range(8)]  # fmt: skip
    attempts += [
        attempt("self_refine", "", at, 200, correct=at < 5, confidence=0.8,
                turns=(Turn(correct=at < 3, accepted=at < 4), Turn(correct=at < 5)))
        for at in range(8)
    ]  # fmt: skip
    attempts += [attempt("self_refine", "gate=vote", at, 300, correct=at < 5) for at in range(8)]
    about = About(data="sums", model="tiny", date="2026-11-24", command="secondpass eval", engine="vLLM")  # fmt: skip
    write_records(path, about, attempts)


def results(*arguments: str) -> int:
    return main(["results", *arguments])


def test_a_recorded_set_of_votes_is_read(tmp_path: Path) -> None:
    made = read_recorded_set(lines(tmp_path / "rec_x.jsonl", VOTES))
    assert isinstance(made, VoteSet)
    assert (made.name, made.model, len(made.polls)) == ("rec_x", "tiny", 6)
    assert made.polls[0].classes == (0, None, 0, 1)
    assert made.scores == {"p_true": ((0.9, 0.2, 0.4, 0.6),) * 6}


def test_a_recorded_set_of_revisions_is_read(tmp_path: Path) -> None:
    made = read_recorded_set(lines(tmp_path / "rec_y.jsonl", REVISIONS))
    assert isinstance(made, RevisionSet)
    first, second = made.chains["repair_direct"][1]
    assert first == Turn(correct=False, answer="a", accepted=False)
    assert second == Turn(correct=True, answer="b")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"samples": SAMPLES}, ":7: id: a text is wanted, not None"),
        ({"id": "q0", "samples": SAMPLES}, ":7: the id 'q0' stands in line 1 already"),
        ({"id": "z"}, ":7: samples: a list is wanted"),
        ({"id": "z", "samples": SAMPLES[:2]}, ":7: samples: 4 are wanted, .* not 2"),
        ({"id": "z", "samples": [*SAMPLES[:3], {"pred": "1", "p_true": 0}]}, r":7: samples\[3\]\.correct: true or false"),
        ({"id": "z", "samples": [*SAMPLES[:3], {"correct": True}]}, r":7: samples\[3\]\.pred: missing"),
        ({"id": "z", "samples": [*SAMPLES[:3], {"pred": "1", "correct": True}]}, r":7: samples\[3\]\.p_true: a number"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    path = lines(tmp_path / "rec_x.jsonl", [*VOTES, row])
    with pytest.raises(BadLine, match=r"rec_x\.jsonl" + complaint):
        read_recorded_set(path)


def test_the_documents_are_written_between_their_markers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    data = tmp_path / "data"
    data.mkdir()
    lines(data / "rec_x.jsonl", VOTES)
    lines(data / "rec_y.jsonl", REVISIONS)
    runs(data / "r.records.jsonl")
    out, readme = tmp_path / "results.md", tmp_path / "README.md"
    for path in (out, readme):
        path.write_text("# Kept\n\n<!-- results -->\nold\n<!-- /results -->\n\n## Overhead\n", "utf-8")  # fmt: skip
    given = ("--data", str(data), "--out", str(out), "--readme", str(readme))
    assert results(*given) == 0
    written = out.read_text("utf-8")
    assert written.startswith("# Kept\n\n<!-- results -->\n## Strategies")
    assert written.endswith("<!-- /results -->\n\n## Overhead\n")
    assert "old" not in written
    for wanted in (
        "### sums, tiny", "2026-11-24, vLLM, `secondpass eval`", "| `self_refine`", "rec_x", "repair_direct",
        "![accuracy against cost](results/frontier-sums-tiny.svg)", "Non-inferior: a loss of 2 points",
    ):  # fmt: skip
        assert wanted in written
    assert str(tmp_path) not in written, "no path of this machine"
    short = readme.read_text("utf-8")
    assert "`self_refine`" in short
    assert "`self_consistency n=4`" in short
    assert "gate=vote" in written
    assert "gate=vote" not in short, "the front page has the defaults"
    assert "`rec_x`" in short
    for name in ("frontier-votes.svg", "frontier-votes.png", "frontier-sums-tiny.svg"):
        assert (tmp_path / "results" / name).stat().st_size > 1000
    assert results(*given) == 0
    assert out.read_text("utf-8") == written, "the same data give the same document"
    assert str(out) in capsys.readouterr().out


def test_the_rows_of_runs_are_what_the_records_say(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs(tmp_path / "r.records.jsonl")
    assert results("--data", str(tmp_path), "--out", str(tmp_path / "o.md")) == 0
    rows = {
        cells[0]: cells
        for line in (tmp_path / "o.md").read_text("utf-8").splitlines()
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])
    }
    # 5/8 right at 200 tokens, where the line is a third of the way from 1/8 to 4/8: 62.5 - 25. Gap: (5 - 4) of (8 - 4).
    frontier = next(line for line in (tmp_path / "o.md").read_text("utf-8").splitlines() if line.startswith("| `self_refine`"))  # fmt: skip
    cells = [cell.strip() for cell in frontier.strip("|").split("|")]
    assert cells[1].startswith("62.5 [")
    assert cells[2] == ""
    assert cells[3].startswith("+37.50 [")
    assert cells[5:10] == ["0.25", "200", "40", "0", "1.00"]
    # RevisionSet (the last table but one): 3 -> 5 of 8; the critic accepts 4, of which 3 are right.
    turns = [line for line in (tmp_path / "o.md").read_text("utf-8").splitlines() if line.startswith("| `self_refine`")][1]  # fmt: skip
    cells = [cell.strip() for cell in turns.strip("|").split("|")]
    assert cells[1:5] == ["37.5", "62.5", "25.0", "0.0"]
    assert cells[8:] == ["0.875", "1.000", "0.800", "1.000", "", ""]
    assert "`self_refine`" in rows


def rows_of(path: Path) -> list[list[str]]:
    lines = path.read_text("utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]  # fmt: skip


def test_every_strategy_is_compared_with_single_and_its_critic_is_measured(tmp_path: Path) -> None:
    """single is right in 2 of 4, self_refine in 3; drafts vote 41, 42 where two are wrong, so half are right there."""
    pytest.importorskip("matplotlib")
    draft, other = GradedCandidate(correct=False, answer="41", accepted=False), GradedCandidate(correct=True, answer="42")  # fmt: skip
    revised = GradedCandidate(correct=True, answer="42", is_revision=True, accepted=True)
    attempts = [RunRecord(question=f"q{at}", strategy="single", correct=at < 2) for at in range(4)]
    attempts += [
        RunRecord(question=f"q{at}", strategy="self_refine", correct=at < 3, candidates=(draft, other, revised),
                turns=(Turn(correct=False), Turn(correct=at < 3)))
        for at in range(4)
    ]  # fmt: skip
    write_records(tmp_path / "r.records.jsonl", About(data="sums", model="tiny"), attempts)
    # Neither tokens nor seconds are known: there is no picture, and the tables are there.
    assert results("--data", str(tmp_path), "--out", str(tmp_path / "o.md")) == 0
    rows = rows_of(tmp_path / "o.md")
    frontier, turns = (cells for cells in rows if cells[0] == "`self_refine`")
    assert frontier[2].startswith("+25.00 [")
    # The critic rejects a wrong draft and accepts a right revision each time; of what it accepted 1 of 1 is right,
    # an eighth of enough. The vote of the drafts is half right: 75 - 50.
    assert turns[8:] == ["1.000", "1.000", "1.000", "", "+25.00", "0.125"]
    assert "\\\n" not in (tmp_path / "o.md").read_text("utf-8"), "a stray sign before the words"


def formatted(path: Path, right: Any, *, asked: bool, sampling: str = "t=1") -> None:
    attempts = [
        RunRecord(question=f"q{at}", strategy="single", shuffle=shuffle, correct=right(at, shuffle),
                usage=Tokens(decode=100 if asked else 80))
        for at in range(4)
        for shuffle in range(2)
    ]  # fmt: skip
    about = About(data="sums", model="tiny", formatted=asked, sampling=sampling)
    write_records(path, about, attempts)


def test_what_the_answer_format_is_worth_comes_first(tmp_path: Path) -> None:
    """With it q0 to q2 are right; without it q0, and q1 every other time: 3/4 - 1.5/4."""
    pytest.importorskip("matplotlib")
    formatted(tmp_path / "a.records.jsonl", lambda at, _: at < 3, asked=True)
    formatted(tmp_path / "b.records.jsonl", lambda at, shuffle: at < 1 + shuffle, asked=False)
    assert results("--data", str(tmp_path), "--out", str(tmp_path / "o.md")) == 0
    written = (tmp_path / "o.md").read_text("utf-8")
    headings = [line for line in written.splitlines() if line.startswith("### ")]
    assert headings == [
        "### What the answer-format instruction is worth to single",
        "### sums, tiny",
        "### sums, tiny, without the answer format",
    ]
    row = next(line for line in written.splitlines() if line.startswith("| sums, tiny"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == ["`single`", "4"]
    assert [cell.split(" ")[0] for cell in cells[3:6]] == ["75.0", "37.5", "+37.50"]
    assert cells[6:] == ["100", "80"]


def test_runs_that_differ_in_more_than_the_format_are_not_compared(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    formatted(tmp_path / "a.records.jsonl", lambda *_: True, asked=True)
    formatted(tmp_path / "b.records.jsonl", lambda *_: True, asked=False, sampling="t=0.7")
    assert results("--data", str(tmp_path), "--out", str(tmp_path / "o.md")) == 0
    written = (tmp_path / "o.md").read_text("utf-8")
    assert "Not compared, since their samples were drawn differently: sums, tiny." in written
    assert "| sums, tiny" not in written


def test_runs_of_one_format_have_no_such_table(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    formatted(tmp_path / "a.records.jsonl", lambda *_: True, asked=True)
    assert results("--data", str(tmp_path), "--out", str(tmp_path / "o.md")) == 0
    assert "answer-format instruction" not in (tmp_path / "o.md").read_text("utf-8")


def nothing(_: Path) -> None:
    """An empty folder."""


def no_samples(folder: Path) -> None:
    lines(folder / "rec_x.jsonl", [{"id": "a"}])


def one_run_twice(folder: Path) -> None:
    runs(folder / "a.records.jsonl")
    runs(folder / "b.records.jsonl")


def no_markers(folder: Path) -> None:
    lines(folder / "rec_x.jsonl", VOTES)
    (folder / "o.md").write_text("# none", "utf-8")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (nothing, "neither rec_"),
        (no_samples, r"rec_x\.jsonl:1: samples"),
        (one_run_twice, r"is in .*a\.records\.jsonl too"),
        (no_markers, "<!-- results -->"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any, complaint: str
) -> None:
    make(tmp_path)
    assert results("--data", str(tmp_path), "--out", str(tmp_path / "o.md")) == 2
    said = capsys.readouterr().err
    assert said.startswith("secondpass results: ")
    assert len(said.splitlines()) == 1
    assert re.search(complaint, said)


def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results("--data", str(tmp_path / "no"), "--out", "x.md") == 2
    assert "no is no folder" in capsys.readouterr().err


def test_markers_must_be_one_pair_in_order(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    for text in ("", "<!-- results -->", "<!-- /results --><!-- results -->", "<!-- results -->" * 2 + "<!-- /results -->"):  # fmt: skip
        path.write_text(text, "utf-8")
        with pytest.raises(NoMarkers, match=r"x\.md: one line"):
            between_markers(path, "text")


def test_figures_are_written_one_way() -> None:
    assert points(Estimate(-0.0032, -0.0074, 0.00001, 9)) == "-0.32 [-0.74..0.00]"
    assert points(None) == ""
    assert table(("a", "n"), [("x|y", "1")]) == "| a    |   n |\n| ---- | --: |\n| x\\|y |   1 |"
