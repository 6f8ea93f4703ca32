"""`secondpass calibrate`, against engines in processes and in this one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from secondpass.service.__main__ import main
from secondpass.service.calibration import load_calibration
from secondpass.service.engines.scripted import Reply, Script, ScriptedEngine
from secondpass.strategies.core import Call
from tests.cli.running import piped
from tests.http.serving import serving

GOLD = "42"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"id": f"q{i}", "question": f"What is 42 + 0 * {i}?", "answer": GOLD} for i in range(6)]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def judge(right: float, wrong: float, *, liking: float = 0.0) -> Script:
    """Three of four drafts are right; drafts are judged so, and with a liking for A."""

    def script(call: Call, index: int) -> Reply:
        asked = call.messages[-1].text
        if "B) " not in asked:
            answer = 41 if index % 4 == 3 else 42
            return Reply(f"The answer is \\boxed{{{answer}}}.")
        p = right if "42" in call.messages[-2].text else wrong
        a = p if "A) right" in asked else 1 - p
        a = a * (1 + liking) / (1 + liking * a)
        return Reply("A", labels={"A": 0.9 * a, "B": 0.9 * (1 - a)})

    return script


def as_flags(flags: Mapping[str, object]) -> list[str]:
    return [str(part) for pair in flags.items() for part in pair]


@pytest.mark.parametrize(
    ("script", "auroc"), [(judge(0.9, 0.2), 1.0), (judge(0.2, 0.9), 0.0), (judge(0.6, 0.6), 0.5)]
)
def test_how_well_a_model_judges_itself_is_written_down(
    script: Script,
    auroc: float,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("secondpass.service.app.ScriptedEngine", lambda **_: ScriptedEngine(script))
    out = tmp_path / "m.calibration.json"
    given = as_flags({"--data": data, "--task": "math", "--out": out})
    assert main(["calibrate", *given, "--", "--engine", "scripted"]) == 0
    found = load_calibration(out)
    assert (found.model, found.n, found.labels) == ("scripted", 24, ("A", "B"))
    assert found.auroc == pytest.approx(auroc)
    assert found.accuracy == pytest.approx(0.75)
    assert found.mass == pytest.approx(0.9)
    assert f"auroc {auroc:.3f}" in capsys.readouterr().out


def test_a_liking_for_a_letter_does_not_count(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for liking in (0.0, 5.0):
        script = judge(0.7, 0.4, liking=liking)
        monkeypatch.setattr(
            "secondpass.service.app.ScriptedEngine", lambda s=script, **_: ScriptedEngine(s)
        )
        out = tmp_path / "m.calibration.json"
        given = as_flags({"--data": data, "--task": "math", "--out": out})
        assert main(["calibrate", *given, "--", "--engine", "scripted"]) == 0
        found.append(load_calibration(out))
    assert found[1].auroc == found[0].auroc == 1.0


def test_it_runs_as_a_process_of_its_own(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.calibration.json"
    ended = piped(
        "calibrate",
        *as_flags({"--data": data, "--task": "math", "--out": out, "--seed": 1}),
        "--",
        "--engine",
        "scripted",
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"scripted: auroc 0.500 over 24 drafts, of which 50% are right" in ended.stdout
    assert load_calibration(out).data
    assert not list(tmp_path.glob("*.part"))


def test_an_engine_is_named_by_its_address(data: Path, tmp_path: Path) -> None:
    with serving(ScriptedEngine()) as served:
        given = {
            "--data": data,
            "--task": "math",
            "--out": tmp_path / "m.json",
            "--engine-url": f"{served.url}/v1",
            "--model": "scripted",
            "--wait": 20,
        }
        ended = piped("calibrate", *as_flags(given))
    # The service's own chat endpoint gives no label probabilities, and that is said.
    assert ended.returncode == 1
    assert b"lacks the capability labels" in ended.stderr


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ((), 2, "no engine: give --engine-url"),
        (("--engine-url", "http://x/v1", "--", "--engine", "scripted"), 2, "not both"),
        (("--engine-url", "http://x/v1"), 2, "model is missing"),
        (("--temperature", "0", "--", "--engine", "scripted"), 2, "--temperature: 0 makes"),
        (("--temperature", "3", "--", "--engine", "scripted"), 2, "--temperature: "),
        (("--seed", "-1", "--", "--engine", "scripted"), 2, "--seed: "),
        (("--n", "0"), 2, "must be a whole number of at least 1"),
        (("--data", "none.jsonl", "--", "--engine", "scripted"), 2, "none.jsonl"),
        (
            ("--out", "/nowhere/x.json", "--", "--engine", "scripted"),
            2,
            "--out: there is no folder",
        ),
        (("--task", "choice", "--", "--engine", "scripted"), 2, "questions.jsonl"),
        (("--n", "3", "--", "--engine", "scripted"), 1, "are right: take other questions"),
    ],
)
def test_what_is_wrong_is_named(
    more: tuple[str, ...],
    code: int,
    says: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = as_flags({"--data": data, "--task": "math", "--out": tmp_path / "m.json"})
    assert main(["calibrate", *given, *more]) == code
    assert says in capsys.readouterr().err
    assert not (tmp_path / "m.json").exists()


def test_a_row_that_cannot_be_graded_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"id": "a", "question": "Write.", "answer": "x", "kind": "open"}\n')
    given = as_flags({"--data": file, "--out": tmp_path / "m.json"})
    assert main(["calibrate", *given, "--", "--engine", "scripted"]) == 2
    assert "q.jsonl:1: kind: one of math, choice, not 'open'" in capsys.readouterr().err
