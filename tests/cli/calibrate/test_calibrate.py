"""`secondpass calibrate` with engines in this process and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from secondpass.service.cli.main import main
from secondpass.service.common.errors import BadSettings
from secondpass.service.config.calibration_files import load_calibration, save_calibration
from secondpass.service.engines.scripted.engine import Fault, Reply, Script, ScriptedEngine
from secondpass.strategies.api.engine import Call
from tests.cli.running import piped
from tests.http.serving import serving

GOLD = "42"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"id": f"q{i}", "question": f"What is 42 + 0 * {i}?", "answer": GOLD} for i in range(6)]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def judge(right: float, wrong: float, *, bias: float = 0.0) -> Script:
    """Return a script that writes 3 of 4 right drafts and grades right ones `right`, others `wrong`.

    `bias` is a preference for the label A.
    """

    def script(call: Call, index: int) -> Reply:
        prompt = call.messages[-1].text
        if "B) " not in prompt:
            answer = 41 if index % 4 == 3 else 42
            return Reply(f"The answer is \\boxed{{{answer}}}.")
        p = right if "42" in call.messages[-2].text else wrong
        a = p if "A) right" in prompt else 1 - p
        a = a * (1 + bias) / (1 + bias * a)
        return Reply("A", labels={"A": 0.9 * a, "B": 0.9 * (1 - a)})

    return script


def as_flags(flags: Mapping[str, object]) -> list[str]:
    return [str(part) for pair in flags.items() for part in pair]


@pytest.mark.parametrize(
    ("script", "auroc"), [(judge(0.9, 0.2), 1.0), (judge(0.2, 0.9), 0.0), (judge(0.6, 0.6), 0.5)]
)
def test_the_auroc_of_a_model_is_measured_and_written(
    script: Script,
    auroc: float,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "secondpass.service.server.app.ScriptedEngine", lambda **_: ScriptedEngine(script)
    )
    out = tmp_path / "m.calibration.json"
    given = as_flags({"--data": data, "--task": "math", "--out": out})
    assert main(["calibrate", *given, "--", "--engine", "scripted"]) == 0
    found = load_calibration(out)
    assert (found.model, found.n, found.labels) == ("scripted", 24, ("A", "B"))
    assert found.auroc == pytest.approx(auroc)
    assert found.accuracy == pytest.approx(0.75)
    assert found.mass == pytest.approx(0.9)
    assert f"auroc {auroc:.3f}" in capsys.readouterr().out


def test_a_preference_for_a_label_cancels_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for bias in (0.0, 5.0):
        script = judge(0.7, 0.4, bias=bias)
        monkeypatch.setattr(
            "secondpass.service.server.app.ScriptedEngine", lambda s=script, **_: ScriptedEngine(s)
        )
        out = tmp_path / "m.calibration.json"
        given = as_flags({"--data": data, "--task": "math", "--out": out})
        assert main(["calibrate", *given, "--", "--engine", "scripted"]) == 0
        found.append(load_calibration(out))
    assert found[1].auroc == found[0].auroc == 1.0


def judge_in_every_way(call: Call, index: int) -> Reply:
    """Write 3 of 4 right drafts, and grade them with another AUROC for each kind of grades."""
    prompt, draft = call.messages[-1].text, call.messages[-2].text if call.messages[1:] else ""
    if call.labels == ("yes", "no"):  # inverted
        yes = 0.2 if "42" in draft else 0.8
        return Reply("yes", labels={"yes": 0.7 * yes, "no": 0.7 * (1 - yes)})
    if call.labels:
        return judge(0.9, 0.2)(call, index)
    if "[CANDIDATE" in prompt:
        verdict = "correct" if "{42}" in prompt.split("[CANDIDATE")[1] else "wrong"
        return Reply(json.dumps({"issues": [], "first_wrong_step": None, "verdict": verdict}))
    if "[STEP" in prompt:
        return Reply(json.dumps({"reason": "x", "first_wrong_step": None}))
    answer = 41 if index % 4 == 3 and call.role == "actor" else 42
    return Reply(f"Let me see.\n\nThe answer is \\boxed{{{answer}}}.")


def test_other_kinds_of_grades_are_measured_on_the_same_drafts(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = ScriptedEngine(judge_in_every_way)
    monkeypatch.setattr("secondpass.service.server.app.ScriptedEngine", lambda **_: engine)
    out = tmp_path / "m.calibration.json"
    given = as_flags({"--data": data, "--task": "math", "--out": out, "--n": 4})
    for kind in ("steps", "first_error", "verdict"):
        given += ["--also", kind]
    assert main(["calibrate", *given, "--", "--engine", "scripted"]) == 0
    found = load_calibration(out)
    assert (found.auroc, found.n) == (1.0, 24)
    assert found.mass == pytest.approx(0.9)
    assert {kind: measured.auroc for kind, measured in found.grades.items()} == {
        "steps_mean": 0.0,
        "steps_last": 0.0,
        "first_error": 0.5,
        "verdict": 1.0,
    }
    assert {measured.n for measured in found.grades.values()} == {24}
    steps, verdict = found.of("steps_last"), found.of("verdict")
    assert steps is not None
    assert steps.labels == ("yes", "no")
    assert steps.mass == pytest.approx(0.7)
    assert verdict is not None
    assert (verdict.labels, verdict.mass) == (None, None)
    assert verdict.probability(1.0) > 0.75 > verdict.probability(0.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["scripted", *found.grades]
    drafts = [call for call in engine.calls if call.purpose == "solve" and call.role == "actor"]
    assert len(drafts) == 24
    assert sum(call.purpose == "critique_reference" for call in engine.calls) == 24


def test_a_kind_of_grades_that_cannot_be_read_is_left_out_with_a_message(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = ScriptedEngine(judge(0.9, 0.2))  # replies to every prompt with an answer
    monkeypatch.setattr("secondpass.service.server.app.ScriptedEngine", lambda **_: engine)
    out = tmp_path / "m.calibration.json"
    given = as_flags({"--data": data, "--task": "math", "--out": out, "--also": "verdict"})
    assert main(["calibrate", *given, "--", "--engine", "scripted"]) == 0
    found = load_calibration(out)
    assert (found.auroc, found.n, found.grades) == (1.0, 24, {})
    printed = capsys.readouterr().err
    assert "24 drafts do not count: no answer, or drawing or grading failed (verdict)" in printed
    assert "verdict is not in the file: no draft with an answer could be graded" in printed


@pytest.mark.parametrize("fault", ["unavailable", "refuse"])
@pytest.mark.parametrize("failing", ["0 * 3?", "What"])
def test_failed_reads_drop_a_question_and_name_the_engine_if_all_fail(
    failing: str,
    fault: Fault,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    normal = judge(0.9, 0.2)

    def script(call: Call, index: int) -> Reply:
        is_failing = call.labels and failing in call.messages[0].text
        return Reply("", fault=fault) if is_failing else normal(call, index)

    monkeypatch.setattr(
        "secondpass.service.server.app.ScriptedEngine", lambda **_: ScriptedEngine(script)
    )
    out = tmp_path / "m.calibration.json"
    given = as_flags({"--data": data, "--task": "math", "--out": out})
    code = main(["calibrate", *given, "--", "--engine", "scripted"])
    printed = capsys.readouterr().err
    if failing == "What":
        assert code == 1
        assert "engine 'scripted': " in printed
    else:
        assert (code, load_calibration(out).n) == (0, 20)
        assert "4 drafts do not count: no answer, or drawing or grading failed" in printed


OLD = {
    "model": "m",
    "labels": ["A", "B"],
    "mass": 0.9,
    "temperature": 1.5,
    "offset": 0.1,
    "auroc": 0.7,
    "accuracy": 0.5,
    "n": 10,
    "drawn": "2026-11-01",
    "data": "0" * 64,
}


def test_a_file_without_other_kinds_of_grades_is_read(tmp_path: Path) -> None:
    file = tmp_path / "m.calibration.json"
    file.write_text(json.dumps(OLD))
    found = load_calibration(file)
    assert found.of("solution") is found
    assert found.of("steps_mean") is None
    save_calibration(file, found)
    assert load_calibration(file) == found


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        ({"guess": {}}, "grades.guess"),
        ({"solution": {}}, "grades.solution"),
        ({"verdict": {"auroc": 2}}, "grades.verdict"),
    ],
)
def test_an_invalid_kind_of_grades_is_named(
    grades: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "m.calibration.json"
    file.write_text(json.dumps(OLD | {"grades": grades}))
    with pytest.raises(BadSettings, match=message):
        load_calibration(file)


def test_the_command_runs_as_a_process(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.calibration.json"
    ended = piped(
        "calibrate",
        *as_flags({"--data": data, "--task": "math", "--out": out, "--seed": 1}),
        "--",
        "--engine",
        "scripted",
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"scripted: auroc 0.500 over 24 drafts, 50% of them right" in ended.stdout
    assert load_calibration(out).data
    assert not list(tmp_path.glob("*.part"))


def test_an_engine_without_label_probabilities_is_reported(data: Path, tmp_path: Path) -> None:
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
    # The chat endpoint of the service returns no label probabilities.
    assert ended.returncode == 1
    assert b"lacks the capability labels" in ended.stderr


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ((), 2, "no engine: set --engine-url"),
        (("--engine-url", "http://x/v1", "--", "--engine", "scripted"), 2, "not both"),
        (("--engine-url", "http://x/v1"), 2, "model is missing"),
        (("--temperature", "0", "--", "--engine", "scripted"), 2, "--temperature: 0 makes"),
        (("--temperature", "3", "--", "--engine", "scripted"), 2, "--temperature: "),
        (("--seed", "-1", "--", "--engine", "scripted"), 2, "--seed: "),
        (("--also", "guess"), 2, "--also: invalid choice: 'guess' (choose from"),
        (("--n", "0"), 2, "must be a whole number of 1 or more, not '0'"),
        (("--data", "none.jsonl", "--", "--engine", "scripted"), 2, "none.jsonl"),
        (
            ("--out", "/nowhere/x.json", "--", "--engine", "scripted"),
            2,
            "--out: the folder /nowhere does not exist",
        ),
        (("--task", "choice", "--", "--engine", "scripted"), 2, "questions.jsonl"),
        (("--n", "3", "--", "--engine", "scripted"), 1, "are right: use other questions"),
    ],
)
def test_an_invalid_option_is_named(
    more: tuple[str, ...],
    code: int,
    message: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = as_flags({"--data": data, "--task": "math", "--out": tmp_path / "m.json"})
    assert main(["calibrate", *given, *more]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m.json").exists()


def test_a_row_that_cannot_be_graded_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"id": "a", "question": "Write.", "answer": "x", "kind": "open"}\n')
    given = as_flags({"--data": file, "--out": tmp_path / "m.json"})
    assert main(["calibrate", *given, "--", "--engine", "scripted"]) == 2
    assert "q.jsonl:1: kind: must be one of math, choice, not 'open'" in capsys.readouterr().err
