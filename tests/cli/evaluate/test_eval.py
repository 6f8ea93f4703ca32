"""`secondpass eval` against a server process: requests, scores, logs and resumption."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log

from secondpass.service.cli.main import main
from secondpass.service.lab.evaluation.answer_log import FILE_NAME, Setting
from secondpass.service.lab.evaluation.inspect_tasks import Evaluation
from secondpass.service.lab.evaluation.records import read_records
from secondpass.service.lab.pools.questions import read_questions
from tests.cli.running import piped
from tests.lab.evaluation.processes import (
    evaluated,
    evaluating,
    serving,
    solves,
    solves_in_flight,
    write_rows,
)
from tests.polling import wait_until

MATH: list[dict[str, object]] = [
    {"id": "right", "question": "What is 6 times 7?", "answer": 42},
    {"id": "equivalent", "question": "What is the half of 84?", "answer": "\\frac{84}{2}"},
    {"id": "wrong", "question": "What is 6 times 9?", "answer": "54"},
]
OTHERS: list[dict[str, object]] = [
    {"id": "letter", "question": "Which is it?", "choices": ["the 41", "the 42"], "answer": "B"},
    {
        "id": "code",
        "question": "def f(x):\n    '''one more'''\n",
        "entry_point": "f",
        "test": "def check(candidate):\n    assert candidate(1) == 2\n",
        "answer": "    return x + 1",
    },
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server"), "--max-n", "8") as url:
        yield url


@pytest.fixture
def math(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "sums.jsonl", MATH)


def logs_in(folder: Path) -> list[EvalLog]:
    return [read_eval_log(each) for each in list_eval_logs(str(folder))]


def test_strategies_are_compared_and_inspect_can_read_the_logs(
    server: str, math: Path, tmp_path: Path
) -> None:
    logs, records = tmp_path / "logs", tmp_path / "sums.records.jsonl"
    others = write_rows(tmp_path / "others.jsonl", OTHERS)
    arguments = (
        "--data",
        math,
        "--data",
        others,
        "--task",
        "math",
        "--log-dir",
        logs,
        "--url",
        server,
    )
    ended = evaluated(
        *arguments, "--strategy", "single", "--strategy", "self_consistency", "--n", "4",
        "--records", records, "--max-tokens", "64", "--temperature", "0.7", "--seed", "4",
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ended.stdout.splitlines()]
    assert [row[:2] for row in table[2:]] == [
        ["single", "sums"],
        ["self_consistency n=4", "sums"],
        ["single", "others"],
        ["self_consistency n=4", "others"],
    ]
    assert table[3][2:5] == ["3", "", "66.7 [20.8..93.9]"]
    assert all(float(cell) > 0 for row in table[2:] for cell in row[5:7])

    by_name = {log.eval.task: log for log in logs_in(logs)}
    log = by_name["sums-self_consistency-n=4"]
    assert log.status == "success"
    assert log.samples
    assert {s.id: s.scores["secondpass"].value for s in log.samples if s.scores} == {
        "right": "C",
        "equivalent": "C",
        "wrong": "I",
    }
    assert log.samples[0].output.completion.endswith("\\boxed{42}.")
    assert log.samples[0].metadata["secondpass"]["params"]["n"] == 4
    assert log.results
    assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(2 / 3)

    written = read_records(records)
    assert written.about.model == "scripted"
    assert written.about.command == (
        "secondpass eval --data sums.jsonl --data others.jsonl --strategy single --strategy self_consistency "
        "--n 4 --task math --max-tokens 64 --temperature 0.7 --seed 4"
    )
    assert written.about.sampling == "temperature=0.7 max_tokens=64"
    assert len(written.runs) == 10
    voted = next(r for r in written.runs if r.setting == "n=4" and r.question == "right")
    assert (voted.strategy, voted.correct, len(voted.candidates)) == ("self_consistency", True, 4)
    assert voted.usage.decode > 0


def test_the_same_command_again_sends_no_request_and_prints_the_same_table(
    server: str, math: Path, tmp_path: Path
) -> None:
    arguments = (
        "--data", math, "--task", "math", "--strategy", "single", "--log-dir", tmp_path / "logs",
        "--url", server, "--epochs", "2",
    )  # fmt: skip
    first = evaluated(*arguments)
    before = solves(server)
    again = evaluated(*arguments)
    assert first.returncode == again.returncode == 0
    assert first.stdout == again.stdout
    assert solves(server) == before
    assert len(logs_in(tmp_path / "logs")) == 1
    more = evaluated(*arguments[:-1], "3")
    assert more.returncode == 0
    assert solves(server)["finished"] == before["finished"] + len(MATH)


def test_another_entry_point_has_another_log(tmp_path: Path) -> None:
    setting = Setting(strategy="single", model="m")
    one, other = (
        read_questions(write_rows(tmp_path / "code.jsonl", [{**OTHERS[1], "entry_point": name}]))
        for name in ("f", "g")
    )
    assert Evaluation(setting, one, 1).id != Evaluation(setting, other, 1).id


@pytest.mark.faults
def test_after_a_kill_no_question_is_answered_twice(tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "question": f"What is {i} and more?", "answer": i} for i in range(8)]
    data, logs = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "logs"
    with serving(tmp_path, first_token=1.0) as url:
        arguments = (
            "--data", data, "--task", "math", "--strategy", "single", "--log-dir", logs,
            "--url", url, "--concurrency", "2",
        )  # fmt: skip
        with evaluating(*arguments) as popen:
            wait_until(lambda: lines_of(logs / FILE_NAME) >= 3, 60)
            time.sleep(0.4)  # the next answers are partial
            popen.send_signal(signal.SIGKILL)
        known = lines_of(logs / FILE_NAME)
        assert known < len(rows)
        (unfinished,) = list_eval_logs(str(logs))
        ended = evaluated(*arguments)
        assert ended.returncode == 0, ended.stderr
        counts = solves(url)
    assert ended.stderr == f"secondpass eval: {known} of {len(rows)} answered\n"
    assert counts["finished"] == len(rows)
    assert set(counts) <= {"finished", "cancelled"}
    assert lines_of(logs / FILE_NAME) == len(rows)
    (log,) = logs_in(logs)
    assert log.status == "success"
    assert log.samples
    assert len(log.samples) == len(rows)
    assert log.location != unfinished.name


@pytest.mark.faults
def test_ctrl_c_ends_the_command_and_not_only_the_current_strategy(tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "question": f"What is {i} and more?", "answer": i} for i in range(8)]
    data, logs = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "logs"
    with serving(tmp_path, first_token=2.0) as url:
        arguments = (
            "--data", data, "--task", "math", "--strategy", "single", "--strategy", "self_consistency",
            "--log-dir", logs, "--url", url, "--concurrency", "2",
        )  # fmt: skip
        with evaluating(*arguments) as popen:
            wait_until(lambda: lines_of(logs / FILE_NAME) >= 2, 60)
            popen.send_signal(signal.SIGINT)
            out, err = popen.communicate(timeout=60)
    assert popen.returncode == 130
    assert "the same command resumes" in err
    assert not out
    assert "self_consistency" not in (logs / FILE_NAME).read_text("utf-8")


def test_the_chat_route_returns_the_same_fields_and_is_logged_separately(
    server: str, math: Path, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    arguments = (
        "--data", math, "--task", "math", "--strategy", "self_consistency", "--param", "n=3",
        "--log-dir", logs, "--url", server,
    )  # fmt: skip
    solved = evaluated(*arguments)
    chatted = evaluated(*arguments, "--route", "chat")
    assert solved.returncode == chatted.returncode == 0, chatted.stderr
    rows = (logs / FILE_NAME).read_text().splitlines()
    documents = [json.loads(row)["document"] for row in rows]
    assert len(documents) == 2 * len(MATH)
    for one, other in zip(documents[:3], documents[3:], strict=True):
        assert one.keys() == other.keys()
        assert one["params"] == other["params"]


def test_an_embedded_server_can_be_used(math: Path, tmp_path: Path) -> None:
    ended = evaluated(
        "--data", math, "--task", "math", "--strategy", "single", "--limit", "2",
        "--log-dir", tmp_path / "logs", "--embedded", "--", "--engine", "scripted",
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "100.0 [34.2..100.0]" in ended.stdout


def test_a_run_without_an_answer_counts_as_wrong_with_its_usage(
    server: str, math: Path, tmp_path: Path
) -> None:
    records = tmp_path / "all.records.jsonl"
    ended = evaluated(
        "--data", math, "--task", "math", "--strategy", "single", "--budget-tokens", "3",
        "--log-dir", tmp_path / "logs", "--url", server, "--records", records,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    runs = read_records(records).runs
    assert not any(run.correct for run in runs)
    assert all(run.error and "budget" in run.error for run in runs)
    assert all(run.usage.decode for run in runs)


@pytest.mark.faults
def test_answers_that_failed_are_missing_and_requested_again(math: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    arguments = ("--data", math, "--task", "math", "--strategy", "single", "--log-dir", logs)
    with serving(tmp_path, first_token=60.0) as url:
        popen = evaluating(*arguments, "--url", url)
        wait_until(lambda: solves_in_flight(url) == len(MATH), 60)
    out, err = popen.communicate(timeout=60)  # the server has ended
    assert popen.returncode == 1
    assert "3 answers are missing" in err
    assert "single" in out
    with serving(tmp_path) as url:
        ended = evaluated(*arguments, "--url", url)
    assert (ended.returncode, ended.stderr) == (0, "")
    (log,) = logs_in(logs)  # the log with errors was replaced
    assert log.samples
    assert not any(sample.error for sample in log.samples)


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([MATH[0], {"id": "x", "question": "Why?"}], ":2: answer is missing"),
        ([MATH[0], MATH[0]], ":2: the id 'right' is already in line 1"),
        (
            [MATH[0], MATH[1] | {"kind": "riddle"}],
            ":2: kind: must be one of math, choice, code, open",
        ),
        (
            [MATH[0], MATH[1] | {"kind": "open"}],
            ":2: kind: must be one of math, choice, code to be scored",
        ),
        ([{"id": "x", "question": "f", "answer": "f", "kind": "code"}], ":1: test is missing"),
        ([OTHERS[1] | {"entry_point": 5}], ":1: entry_point: must be a string, not 5"),
    ],
)
def test_an_invalid_row_is_named_by_file_and_line(
    rows: list[object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows)
    code = main(
        ["eval", "--data", str(data), "--task", "math", "--strategy", "single", "--log-dir", str(tmp_path)]
    )  # fmt: skip
    assert code == 2
    assert f"{data}{message}" in capsys.readouterr().err


def test_an_invalid_records_path_is_rejected_before_any_request(
    math: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "eval",
        "--data",
        str(math),
        "--strategy",
        "single",
        "--log-dir",
        str(tmp_path / "logs"),
    ]
    for name, message in (
        ("x.jsonl", "must end in .records.jsonl"),
        ("no/x.records.jsonl", "in an existing folder"),
    ):
        assert main([*arguments, "--records", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--strategy", "magic"], "the server has no strategy 'magic'"),
        (["--strategy", "single", "--strategy", "single"], "is given twice"),
        (["--strategy", "single", "--n", "3"], "--n: no parameter `n` in single"),
        (["--strategy", "single", "--param", "width=3"], "single has no parameter 'width'"),
        (["--strategy", "single", "--param", "self_consistency.n=3"], "is not a --strategy"),
        (["--strategy", "self_consistency", "--n", "3", "--param", "n=3"], "given twice"),
        (["--strategy", "self_consistency", "--n", "99"], ": strategy.params.n: must be at most 8"),
        (["--strategy", "self_consistency", "--param", "stop=never"], "strategy.params.stop"),
    ],
)
def test_what_the_server_lacks_is_reported_on_one_line(
    server: str, math: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    ended = evaluated(
        "--data", math, "--task", "math", "--log-dir", tmp_path / "logs", "--url", server, *flags
    )
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


def test_an_unreachable_server_exits_with_1(math: Path, tmp_path: Path) -> None:
    ended = evaluated(
        "--data", math, "--task", "math", "--strategy", "single", "--log-dir", tmp_path / "logs",
        "--url", "http://127.0.0.1:1",
    )  # fmt: skip
    assert ended.returncode == 1
    assert "cannot connect" in ended.stderr


def test_without_the_extra_the_error_names_it(
    math: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    arguments = ["--data", str(math), "--strategy", "single", "--log-dir", str(tmp_path)]
    assert main(["eval", *arguments]) == 1
    assert "pip install 'secondpass[eval]'" in capsys.readouterr().err


def test_no_other_command_imports_inspect() -> None:
    code = "import sys, secondpass.service.cli.main; print('inspect_ai' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
    assert b"--log-dir" in piped("eval", "--help").stdout
