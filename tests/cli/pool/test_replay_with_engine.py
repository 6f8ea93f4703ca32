"""`secondpass pool replay` with an engine: missing samples are drawn once and then replayed."""

import json
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from secondpass.service.cli.main import main
from secondpass.service.config.calibration_files import save_calibration
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.lab.evaluation.records import RunRecord, read_records
from secondpass.service.lab.pools.pool import read_pool
from secondpass.service.server import app
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Call
from tests.cli.running import COMMAND, ROOT, piped, surroundings
from tests.lab.pools.support import HEADER, recorded, write_rows
from tests.polling import Patience

CALIBRATION = Calibration(
    model="scripted", labels=("Yes", "No"), mass=1.0, temperature=1.0, auroc=0.9, accuracy=0.5,
    n=100, drawn=date(2026, 11, 25), data="0" * 64,
)  # fmt: skip
ENGINE = ("--", "--engine", "scripted")


def pseudo_random(call: Call, index: int) -> Reply:
    """Reply with a text, labels, reward or JSON derived from a checksum of the call."""
    text = call.messages[-1].text + str(index)
    number = zlib.crc32(text.encode())
    if call.schema is not None:
        return Reply(json.dumps(_instance_of(json.loads(call.schema), number)))
    labels = {label: 0.1 + 0.8 * ((number >> i) % 2) for i, label in enumerate(call.labels)}
    total = sum(labels.values())
    seed = (call.sampling.seed or 0) + number
    return Reply(
        f"Draft {seed} {'so ' * (seed % 7)}is \\boxed{{{40 + seed % 3}}}.",
        labels={label: share / total for label, share in labels.items()},
        reward=number % 10 / 10,
    )


def _instance_of(schema: dict[str, Any], number: int) -> Any:
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    if "properties" in schema:
        return {name: _instance_of(shape, number) for name, shape in schema["properties"].items()}
    if schema.get("type") == "array":
        return [_instance_of(schema["items"], number)] * schema.get("minItems", 1)
    if schema.get("type") in ("integer", "number"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 10)
        return low + number % (high - low + 1)
    return schema.get("const", f"Step {number % 9} is wrong.")


@pytest.fixture(autouse=True)
def _scripted_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "ScriptedEngine", partial(ScriptedEngine, pseudo_random))


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of four drafts per question, some of them wrong."""
    data = write_rows(tmp_path_factory.mktemp("data") / "data.jsonl")
    return recorded(data.with_name("pool.jsonl"), data, n=4).path


@pytest.fixture
def pool(drafts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(drafts, tmp_path / "pool.jsonl"))


def command(pool: Path, *settings: str, options: Sequence[str] = ()) -> list[str]:
    flags = [word for setting in settings for word in ("--setting", setting)]
    out = pool.with_name("pool.records.jsonl")
    given = ["pool", "replay", "--pool", str(pool), "--out", str(out), "--shuffles", "3"]
    return [*given, *flags, *options]


def records(pool: Path) -> tuple[RunRecord, ...]:
    return read_records(pool.with_name("pool.records.jsonl")).runs


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_replay_with_an_engine_is_repeated_without_one(
    name: str, calibrated: bool, pool: Path, tmp_path: Path
) -> None:
    options = []
    if calibrated:
        save_calibration(tmp_path / "scripted.calibration.json", CALIBRATION)
        options = ["--calibrations", str(tmp_path)]
    assert main([*command(pool, name, options=options), *ENGINE]) == 0
    first, content = records(pool), pool.read_bytes()
    assert main(command(pool, name, options=options)) == 0
    assert records(pool) == first
    assert not any(record.error for record in first)
    assert main([*command(pool, name, options=options), *ENGINE]) == 0
    assert pool.read_bytes() == content


def test_every_shuffle_takes_its_drafts_from_the_pool(pool: Path) -> None:
    before = read_pool(pool)
    assert main([*command(pool, "self_consistency n=6 stop=none"), *ENGINE]) == 0
    after = read_pool(pool)
    assert len(after.samples) == len(before.samples) + 3 * 2
    for question in before.questions.values():
        drawn = [after.samples[question.key, index] for index in range(6)]
        assert [sample.seed for sample in drawn] == [HEADER.seed + i for i in range(6)]
        assert after.recorder_indices(question.key) == before.indices(question.key) == [0, 1, 2, 3]


def test_added_samples_do_not_change_existing_shuffles(pool: Path) -> None:
    assert main(command(pool, "self_consistency n=4 stop=none")) == 0
    before = records(pool)
    assert main([*command(pool, "self_consistency n=6 stop=none"), *ENGINE]) == 0
    assert main(command(pool, "self_consistency n=4 stop=none")) == 0
    assert records(pool) == before


def test_a_run_does_not_depend_on_earlier_replays(pool: Path) -> None:
    """Many calls end at the same time, and rounding of times depends on the clock."""
    name = "iterative_deepening"
    assert main([*command(pool, name), *ENGINE]) == 0
    lines = [json.loads(line) for line in pool.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "sample":
            line |= {"first_seconds": 0.1, "seconds": 0.1 * max(1, line["tokens"])}
    write_rows(pool, lines)
    assert main(command(pool, name)) == 0
    alone = records(pool)
    for before in ("single", "self_consistency n=3 stop=none"):
        assert main(command(pool, before, name)) == 0
        assert tuple(record for record in records(pool) if record.strategy == name) == alone


def test_a_run_whose_call_fails_is_reported_and_the_others_continue(
    pool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "ScriptedEngine", partial(ScriptedEngine, pseudo_random, window=50))
    assert main([*command(pool, "single", "self_refine"), *ENGINE]) == 1
    printed = capsys.readouterr().err
    assert "of 18 runs have no answer; the first: question 'a', self_refine" in printed
    assert "the model's context holds 50" in printed
    failed = [record for record in records(pool) if record.error]
    assert 0 < len(failed) <= 9
    assert not any(record.correct for record in failed)
    assert all(record.usage.decode and record.seconds for record in failed), "the draft has a cost"


def test_a_missing_call_is_reported_even_if_the_strategy_ignores_it(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(pool, "self_refine")) == 1
    assert "not in the pool: 'feedback' of the critic was not recorded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "flags", "message"),
    [
        ((), ("--engine", "scripted", "--model", "other"), "pool.jsonl:1: model: the pool was"),
        ((), ("--engine", "unknown"), "after --: "),
        (
            ("--concurrency", "0"),
            ("--engine", "scripted"),
            "must be a whole number of 1 or more, not '0'",
        ),
        (("--concurrency", "3"), (), "--concurrency needs an engine"),
        (("--seed", "-1"), (), "--seed: "),
        (("--calibrations", "/no/such"), (), "/no/such"),
        (
            (),
            ("--engine", "scripted", "--calibrations", "{folder}"),
            "use --calibrations before --",
        ),
    ],
)
def test_an_invalid_option_is_named(
    options: Sequence[str],
    flags: Sequence[str],
    message: str,
    pool: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_calibration(tmp_path / "scripted.calibration.json", CALIBRATION)
    flags = [flag.format(folder=tmp_path) for flag in flags]
    before = pool.read_bytes()
    given = command(pool, "self_refine", options=options)
    assert main([*given, "--", *flags] if flags else given) == 2
    assert message in capsys.readouterr().err
    assert pool.read_bytes() == before


def test_a_calibration_of_another_model_is_rejected(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = CALIBRATION.model_copy(update={"model": "other"})
    save_calibration(tmp_path / "other.calibration.json", other)
    assert main(command(pool, "single", options=["--calibrations", str(tmp_path)])) == 2
    assert "no calibration of the pool's model 'scripted'; found: other" in capsys.readouterr().err


def test_records_contain_the_calibration(pool: Path, tmp_path: Path) -> None:
    save_calibration(tmp_path / "own.calibration.json", CALIBRATION)
    options = ["--only", "a", "--calibrations", str(tmp_path / "own.calibration.json")]
    assert main(command(pool, "single", options=options)) == 0
    about = read_records(pool.with_name("pool.records.jsonl")).about
    assert "replay --only a --calibrations own.calibration.json --shuffles 3" in about.command
    assert about.calibration.startswith("judge's AUROC 0.900, 100 drafts, 2026-11-25, ")


def test_a_role_with_another_engine_is_rejected(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = pool.with_name("two.toml")
    two.write_text(
        '[engines.default]\nkind = "scripted"\n[engines.second]\nkind = "scripted"\n'
        '[roles.judge]\nengine = "second"\n'
    )
    assert main([*command(pool, "single"), "--", "--config", str(two)]) == 2
    assert "roles.judge: all roles must have the actor's engine" in capsys.readouterr().err


def test_an_engine_with_fewer_capabilities_is_rejected(
    pool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lesser = partial(ScriptedEngine, lacking=frozenset({"labels", "prefix"}))
    monkeypatch.setattr(app, "ScriptedEngine", lesser)
    assert main([*command(pool, "single"), *ENGINE]) == 2
    assert (
        "lacks the capability labels, prefix, which the pool was recorded with"
        in capsys.readouterr().err
    )


@pytest.mark.faults
def test_a_kill_loses_no_finished_sample(pool: Path) -> None:
    slow = pool.with_name("slow.toml")
    slow.write_text('[engines.slow]\nkind = "scripted"\nper_token = 0.05\n')
    given = [*command(pool, "self_refine", options=["--concurrency", "2"])]
    given += ["--", "--config", str(slow)]
    before = len(read_pool(pool).samples)
    with subprocess.Popen(
        [*COMMAND, *given], cwd=ROOT, env=surroundings(), stderr=subprocess.PIPE
    ) as process:
        patience = Patience(60)
        while pool.read_bytes().count(b'"kind":"sample"') < before + 2:
            assert process.poll() is None, process.communicate()
            assert not patience.is_over()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    kept = pool.read_bytes()[: pool.read_bytes().rindex(b"\n") + 1]
    ended = piped(*given)
    assert ended.returncode == 0, ended.stderr
    assert b"runs, " in ended.stderr
    assert pool.read_bytes().startswith(kept)
    first = records(pool)
    assert main(command(pool, "self_refine")) == 0
    assert records(pool) == first
