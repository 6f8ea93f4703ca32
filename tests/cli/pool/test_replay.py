"""`secondpass pool replay`: records from a pool, without a model."""

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


def test_a_run_without_an_answer_has_the_usage_of_its_samples(pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "pool.records.jsonl"
    assert replayed(pool, out, "self_consistency n=5 stop=none width=1") == 1
    samples = read_pool(pool).samples.values()
    for record in read_records(out).runs:
        drawn = [sample for sample in samples if sample.question == record.question]
        assert record.usage.decode == sum(sample.tokens for sample in drawn)
        assert record.seconds == pytest.approx(sum(sample.seconds for sample in drawn))


def replayed(pool: Path, out: Path, *settings: str, options: tuple[str, ...] = ()) -> int:
    flags = [word for setting in settings for word in ("--setting", setting)]
    command = ["pool", "replay", "--pool", str(pool), "--out", str(out), "--shuffles", "3"]
    return main([*command, *flags, *options])


def test_every_setting_has_a_record_for_each_question_and_shuffle(
    pool: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pool.records.jsonl"
    assert replayed(pool, out, "single", "self_consistency n=4 stop=none") == 0
    records = read_records(out)
    questions = {record.question for record in records.runs}
    assert len(records.runs) == 2 * 3 * len(questions)
    assert {record.name for record in records.runs} == {
        "single",
        "self_consistency n=4 stop=none",
    }
    assert records.about.model == "scripted"
    assert records.about.command == "secondpass pool replay --shuffles 3 --seed 5"


def test_a_run_that_lacks_samples_is_reported_and_counts_as_wrong(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pool.records.jsonl"
    assert replayed(pool, out, "self_consistency n=9 stop=none") == 1
    assert "have no answer; the first: question" in capsys.readouterr().err
    assert not any(record.correct for record in read_records(out).runs)


def test_answers_from_another_source_are_scored_by_that_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.5 is right and 1/2 is wrong if the source decided so. A missing answer casts no vote."""
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
    assert not any(each.usage.decode for each in records.runs), "their cost is unknown"
    right = {each.question: each.correct for each in records.runs if each.question != "q2"}
    assert right == {"q0": False, "q1": True}
    assert replayed(data, out, "single", options=("--", "--engine", "scripted")) == 2
    assert "which no engine can extend" in capsys.readouterr().err
    write_rows(data, [rows[0], rows[0] | {"id": "x", "samples": [{"pred": 1}]}])
    assert replayed(data, out, "single") == 2
    assert f"{data}:2: samples[0].correct: must be true or false" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "options", "message"),
    [
        ("no_such", (), "--setting: unknown strategy 'no_such'; must be one of: "),
        ("self_consistency n", (), "must be KEY=VALUE, not 'n'"),
        ("self_consistency n=0", (), "n: must be at least 1, not 0"),
        ("single", ("--only", "nobody"), "no question id of"),
        ("single", ("--pool", "/no/such/pool"), "/no/such/pool"),
        ("single", ("--setting", "single"), "--setting 'single': given twice"),
        ("single", ("--wait", "nan"), "--wait: must be a number, not 'nan'"),
        ("single", ("--wait", "inf"), "--wait: must be a number, not 'inf'"),
        ("single", ("--wait", "-1"), "--wait: must be 0 or more, not '-1'"),
        ("single", ("--out", "{folder}"), "must be a file in an existing folder"),
        ("single", ("--out", "{folder}/no/x"), "must be a file in an existing folder"),
        ("single", ("--out", "{pool}"), "must end in .records.jsonl"),
        ("single", ("--out", "{folder}/x.jsonl"), "x.jsonl must end in .records.jsonl"),
    ],
)
def test_an_invalid_option_is_named(
    setting: str,
    options: tuple[str, ...],
    message: str,
    pool: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = pool.read_bytes()
    options = tuple(option.format(folder=tmp_path, pool=pool) for option in options)
    assert replayed(pool, tmp_path / "x.records.jsonl", setting, options=options) == 2
    assert message in capsys.readouterr().err
    assert pool.read_bytes() == before
