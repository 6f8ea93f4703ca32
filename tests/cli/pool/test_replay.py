"""`secondpass pool replay`: from a pool to records that every metric reads, without a model."""

from pathlib import Path

import pytest

from secondpass.service.cli.main import main
from secondpass.service.lab.evaluation.records import read_records
from secondpass.service.lab.pools.pool import read_pool
from tests.lab.pools.support import recorded, write_rows


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = write_rows(tmp_path_factory.mktemp("data") / "data.jsonl")
    return recorded(data.with_name("pool.jsonl"), data, n=4).path


def test_a_run_without_an_answer_has_the_bill_of_what_it_got(pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "pool.records.jsonl"
    assert replayed(pool, out, "self_consistency n=5 stop=none width=1") == 1
    samples = read_pool(pool).samples.values()
    for attempt in read_records(out).runs:
        drawn = [sample for sample in samples if sample.question == attempt.question]
        assert attempt.usage.decode == sum(sample.tokens for sample in drawn)
        assert attempt.seconds == pytest.approx(sum(sample.seconds for sample in drawn))


def replayed(pool: Path, out: Path, *settings: str, options: tuple[str, ...] = ()) -> int:
    flags = [word for setting in settings for word in ("--setting", setting)]
    command = ["pool", "replay", "--pool", str(pool), "--out", str(out), "--shuffles", "3"]
    return main([*command, *flags, *options])


def test_every_setting_has_an_attempt_for_each_question_and_shuffle(
    pool: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pool.records.jsonl"
    assert replayed(pool, out, "single", "self_consistency n=4 stop=none") == 0
    records = read_records(out)
    questions = {attempt.question for attempt in records.runs}
    assert len(records.runs) == 2 * 3 * len(questions)
    assert {attempt.name for attempt in records.runs} == {
        "single",
        "self_consistency n=4 stop=none",
    }
    assert records.about.model == "scripted"
    assert records.about.command == "secondpass pool replay --shuffles 3 --seed 5"


def test_what_was_not_recorded_is_told_and_counts_as_wrong(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pool.records.jsonl"
    assert replayed(pool, out, "self_consistency n=9 stop=none") == 1
    assert "have no answer; the first: question" in capsys.readouterr().err
    assert not any(attempt.correct for attempt in read_records(out).runs)


def test_answers_that_others_recorded_are_voted_on_as_they_were_graded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.5 is right and 1/2 is not, if whoever recorded them said so; a sample without an answer does not vote."""
    samples: list[dict[str, object]] = [
        {"pred": "1/2", "correct": False},
        {"pred": "0.5", "correct": True},
    ]
    rows: list[dict[str, object]] = [
        {"id": f"q{at}", "question": "Half?", "model": "davinci", "samples": [*samples * 2, more]}
        for at, more in enumerate((*samples, {"pred": None, "correct": False}))
    ]
    data = write_rows(tmp_path / "rec_halves.jsonl", rows)
    out = tmp_path / "rec.records.jsonl"
    assert replayed(data, out, "self_consistency n=5 stop=none") == 0
    records = read_records(out)
    assert (records.about.data, records.about.model) == ("rec_halves", "davinci")
    assert records.about.formatted is None
    assert not any(each.usage.decode for each in records.runs), "nobody knows what they cost"
    right = {each.question: each.correct for each in records.runs if each.question != "q2"}
    assert right == {"q0": False, "q1": True}
    assert replayed(data, out, "single", options=("--", "--engine", "scripted")) == 2
    assert "an engine can add nothing" in capsys.readouterr().err
    write_rows(data, [rows[0], rows[0] | {"id": "x", "samples": [{"pred": 1}]}])
    assert replayed(data, out, "single") == 2
    assert f"{data}:2: samples[0].correct: must be true or false" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "options", "says"),
    [
        ("no_such", (), "--setting: no strategy 'no_such'; one of "),
        ("self_consistency n", (), "must be KEY=VALUE, not 'n'"),
        ("self_consistency n=0", (), "n: Input should be greater than or equal to 1"),
        ("single", ("--only", "nobody"), "no question of"),
        ("single", ("--pool", "/no/such/pool"), "/no/such/pool"),
        ("single", ("--setting", "single"), "--setting 'single': named twice"),
        ("single", ("--wait", "nan"), "--wait: must be a number, not 'nan'"),
        ("single", ("--wait", "inf"), "--wait: must be a number, not 'inf'"),
        ("single", ("--wait", "-1"), "--wait: must be 0 or more, not '-1'"),
        ("single", ("--out", "{folder}"), "must be a file, in a folder that is there"),
        ("single", ("--out", "{folder}/no/x"), "must be a file, in a folder that is there"),
        ("single", ("--out", "{pool}"), "must end in .records.jsonl"),
        ("single", ("--out", "{folder}/x.jsonl"), "x.jsonl must end in .records.jsonl"),
    ],
)
def test_what_cannot_be_replayed_is_named(
    setting: str,
    options: tuple[str, ...],
    says: str,
    pool: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = pool.read_bytes()
    options = tuple(option.format(folder=tmp_path, pool=pool) for option in options)
    assert replayed(pool, tmp_path / "x.records.jsonl", setting, options=options) == 2
    assert says in capsys.readouterr().err
    assert pool.read_bytes() == before
