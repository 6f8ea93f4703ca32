"""`secondpass pool replay` with an engine: what the pool lacks is asked once, and replayed from then on."""

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


def opinionated(call: Call, index: int) -> Reply:
    """Drafts that differ, and judges who now say this and now that, in whatever shape they are asked for."""
    words = call.messages[-1].text + str(index)
    mood = zlib.crc32(words.encode())
    if call.schema is not None:
        return Reply(json.dumps(_in_shape(json.loads(call.schema), mood)))
    labels = {label: 0.1 + 0.8 * ((mood >> i) % 2) for i, label in enumerate(call.labels)}
    total = sum(labels.values())
    seed = (call.sampling.seed or 0) + mood
    return Reply(
        f"Draft {seed} {'so ' * (seed % 7)}is \\boxed{{{40 + seed % 3}}}.",
        labels={label: share / total for label, share in labels.items()},
        reward=mood % 10 / 10,
    )


def _in_shape(schema: dict[str, Any], mood: int) -> Any:
    if "enum" in schema:
        return schema["enum"][mood % len(schema["enum"])]
    if "properties" in schema:
        return {name: _in_shape(shape, mood) for name, shape in schema["properties"].items()}
    if schema.get("type") == "array":
        return [_in_shape(schema["items"], mood)] * schema.get("minItems", 1)
    if schema.get("type") in ("integer", "number"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 10)
        return low + mood % (high - low + 1)
    return schema.get("const", f"Step {mood % 9} is wrong.")


@pytest.fixture(autouse=True)
def _engine_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "ScriptedEngine", partial(ScriptedEngine, opinionated))


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of four drafts a question, of which some are wrong."""
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


def attempts(pool: Path) -> tuple[RunRecord, ...]:
    return read_records(pool.with_name("pool.records.jsonl")).runs


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_what_an_engine_was_asked_is_replayed_without_one(
    name: str, calibrated: bool, pool: Path, tmp_path: Path
) -> None:
    options = []
    if calibrated:
        save_calibration(tmp_path / "scripted.calibration.json", CALIBRATION)
        options = ["--calibrations", str(tmp_path)]
    assert main([*command(pool, name, options=options), *ENGINE]) == 0
    asked, whole = attempts(pool), pool.read_bytes()
    assert main(command(pool, name, options=options)) == 0
    assert attempts(pool) == asked
    assert not any(attempt.error for attempt in asked)
    assert main([*command(pool, name, options=options), *ENGINE]) == 0
    assert pool.read_bytes() == whole


def test_drafts_come_from_the_pool_under_every_shuffle(pool: Path) -> None:
    before = read_pool(pool)
    assert main([*command(pool, "self_consistency n=6 stop=none"), *ENGINE]) == 0
    after = read_pool(pool)
    assert len(after.samples) == len(before.samples) + 3 * 2
    for asked in before.questions.values():
        drawn = [after.samples[asked.key, index] for index in range(6)]
        assert [sample.seed for sample in drawn] == [HEADER.seed + i for i in range(6)]
        assert after.recorder_indices(asked.key) == before.indices(asked.key) == [0, 1, 2, 3]


def test_what_was_drawn_for_a_strategy_moves_nothing_in_a_shuffle(pool: Path) -> None:
    assert main(command(pool, "self_consistency n=4 stop=none")) == 0
    before = attempts(pool)
    assert main([*command(pool, "self_consistency n=6 stop=none"), *ENGINE]) == 0
    assert main(command(pool, "self_consistency n=4 stop=none")) == 0
    assert attempts(pool) == before


def test_a_run_does_not_depend_on_what_was_replayed_before_it(pool: Path) -> None:
    """Many calls of it end at one time, and how times are rounded hangs on how much time has passed."""
    name = "iterative_deepening"
    assert main([*command(pool, name), *ENGINE]) == 0
    lines = [json.loads(line) for line in pool.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "sample":
            line |= {"first_seconds": 0.1, "seconds": 0.1 * max(1, line["tokens"])}
    write_rows(pool, lines)
    assert main(command(pool, name)) == 0
    alone = attempts(pool)
    for before in ("single", "self_consistency n=3 stop=none"):
        assert main(command(pool, before, name)) == 0
        assert tuple(each for each in attempts(pool) if each.strategy == name) == alone


def test_a_run_whose_call_fails_is_told_and_the_others_go_on(
    pool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "ScriptedEngine", partial(ScriptedEngine, opinionated, window=50))
    assert main([*command(pool, "single", "self_refine"), *ENGINE]) == 1
    said = capsys.readouterr().err
    assert "of 18 runs have no answer; the first: question 'a', self_refine" in said
    assert "the model's context holds 50" in said
    lost = [attempt for attempt in attempts(pool) if attempt.error]
    assert 0 < len(lost) <= 9
    assert not any(attempt.correct for attempt in lost)
    assert all(attempt.usage.decode and attempt.seconds for attempt in lost), (
        "the draft was paid for"
    )


def test_a_call_that_was_swallowed_by_a_strategy_is_still_missing(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(pool, "self_refine")) == 1
    assert "not in the pool: 'feedback' of the critic was not recorded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "flags", "says"),
    [
        ((), ("--engine", "scripted", "--model", "other"), "pool.jsonl:1: model: the pool was"),
        ((), ("--engine", "nobody"), "after --: "),
        (
            ("--concurrency", "0"),
            ("--engine", "scripted"),
            "must be a whole number of 1 or more, not '0'",
        ),
        (("--concurrency", "3"), (), "--concurrency: without an engine"),
        (("--seed", "-1"), (), "--seed: "),
        (("--calibrations", "/no/such"), (), "/no/such"),
        ((), ("--engine", "scripted", "--calibrations", "{folder}"), "name them before --"),
    ],
)
def test_what_cannot_be_asked_is_named(
    options: Sequence[str],
    flags: Sequence[str],
    says: str,
    pool: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_calibration(tmp_path / "scripted.calibration.json", CALIBRATION)
    flags = [flag.format(folder=tmp_path) for flag in flags]
    before = pool.read_bytes()
    given = command(pool, "self_refine", options=options)
    assert main([*given, "--", *flags] if flags else given) == 2
    assert says in capsys.readouterr().err
    assert pool.read_bytes() == before


def test_a_calibration_of_another_model_is_refused(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = CALIBRATION.model_copy(update={"model": "other"})
    save_calibration(tmp_path / "other.calibration.json", other)
    assert main(command(pool, "single", options=["--calibrations", str(tmp_path)])) == 2
    assert "the pool's model is 'scripted', they are of other" in capsys.readouterr().err


def test_records_tell_of_the_calibration_that_runs_had(pool: Path, tmp_path: Path) -> None:
    save_calibration(tmp_path / "own.calibration.json", CALIBRATION)
    options = ["--only", "a", "--calibrations", str(tmp_path / "own.calibration.json")]
    assert main(command(pool, "single", options=options)) == 0
    about = read_records(pool.with_name("pool.records.jsonl")).about
    assert "replay --only a --calibrations own.calibration.json --shuffles 3" in about.command
    assert about.calibration.startswith("judge's AUROC 0.900, 100 drafts, 2026-11-25, ")


def test_roles_of_other_engines_are_refused(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = pool.with_name("two.toml")
    two.write_text(
        '[engines.default]\nkind = "scripted"\n[engines.second]\nkind = "scripted"\n'
        '[roles.judge]\nengine = "second"\n'
    )
    assert main([*command(pool, "single"), "--", "--config", str(two)]) == 2
    assert "roles.judge: a pool has one model" in capsys.readouterr().err


def test_an_engine_that_can_do_less_is_refused(
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
def test_a_kill_costs_nothing_that_was_drawn(pool: Path) -> None:
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
    asked = attempts(pool)
    assert main(command(pool, "self_refine")) == 0
    assert attempts(pool) == asked
