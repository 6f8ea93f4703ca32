"""`secondpass pool record` as a process: kill, Ctrl-C and invalid options."""

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from secondpass.service.lab.pools.pool import read_pool
from tests.cli.running import COMMAND, ROOT, piped, surroundings
from tests.lab.pools.support import ROWS, write_rows
from tests.polling import Patience

SLOW = '[engines.slow]\nkind = "scripted"\nper_token = 0.02\n'


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Arguments of a recording that takes a few seconds."""
    rows = [{"id": f"q{i}", "question": f"What is {i} + 1?", "answer": i + 1} for i in range(12)]
    data = write_rows(tmp_path / "data.jsonl", rows)
    (tmp_path / "slow.toml").write_text(SLOW)
    return [
        *("pool", "record", "--data", str(data), "--task", "math", "--n", "6"),
        *("--max-tokens", "64", "--concurrency", "8", "--out", str(tmp_path / "pool.jsonl")),
        *("--", "--config", str(tmp_path / "slow.toml")),
    ]


def samples_in(path: Path) -> int:
    return path.read_bytes().count(b'"kind":"sample"') if path.exists() else 0


def started(arguments: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, env=surroundings(), stderr=subprocess.PIPE
    )


def wait_for_samples(process: "subprocess.Popen[bytes]", path: Path, count: int) -> None:
    patience = Patience(60)
    while samples_in(path) < count:
        assert process.poll() is None, process.communicate()
        assert not patience.is_over()
        time.sleep(0.005)


@pytest.mark.faults
def test_a_killed_recording_resumes_and_draws_nothing_twice(
    arguments: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "pool.jsonl"
    before = b""
    for kills in range(1, 4):
        with started(arguments) as process:
            wait_for_samples(process, path, kills * 15)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.stderr is not None
            process.stderr.read()
        assert path.read_bytes().startswith(before)
        before = path.read_bytes()[: path.read_bytes().rindex(b"\n") + 1]
    with path.open("ab") as file:
        file.write(b'{"kind":"sample","key":"abc","ind')
    ended = piped(*arguments)
    assert ended.returncode == 0
    assert b"removed an incomplete last line (33 bytes)" in ended.stderr
    assert path.read_bytes().startswith(before)
    pool = read_pool(path)
    drawn = Counter((sample.question, sample.index) for sample in pool.samples.values())
    assert len(drawn) == samples_in(path) == 12 * 6
    assert len(pool.passes) == 4
    assert b"already has 6 samples of each question" in piped(*arguments).stderr


@pytest.mark.faults
def test_ctrl_c_keeps_finished_samples(arguments: list[str], tmp_path: Path) -> None:
    with started(arguments) as process:
        wait_for_samples(process, tmp_path / "pool.jsonl", 5)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"the same command resumes" in stderr
    assert len(read_pool(tmp_path / "pool.jsonl").samples) >= 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--temperature", "0.9"], "pool.jsonl:1: sampling: the pool was recorded with"),
        (["--prompt-format", "off"], "pool.jsonl:1: formatted: "),
        (["--seed", "3"], "pool.jsonl:1: seed: "),
    ],
)
def test_other_sampling_for_the_same_pool_is_rejected(
    tmp_path: Path, change: list[str], message: str
) -> None:
    data = write_rows(tmp_path / "data.jsonl")
    first = ["pool", "record", "--data", str(data), "--task", "math", "--n", "1"]
    first += ["--out", str(tmp_path / "pool.jsonl")]
    assert piped(*first, "--", "--engine", "scripted").returncode == 0
    ended = piped(*first, *change, "--", "--engine", "scripted")
    assert ended.returncode == 2
    assert message in ended.stderr.decode()
    other = piped(*first, "--", "--engine", "scripted", "--model", "other")
    assert "pool.jsonl:1: model: the pool was recorded with 'scripted', not 'other'" in (
        other.stderr.decode()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "0"], "--n: must be a whole number of 1 or more, not '0'"),
        (["--temperature", "3"], "--temperature: must be at most 2, not '3'"),
        (["--max-tokens", "no"], "--max-tokens: must be a number, not 'no'"),
        (["--task", "maths"], "--task: invalid choice: 'maths'"),
        (["--note", "x"], "--note: must be KEY=VALUE"),
        (["--note", "x=1", "--note", "x=2"], "--note: a key is given twice"),
        ([], "after --: "),
        (["--out", "/no/such/folder/p"], "--out: .* in an existing folder"),
    ],
)
def test_an_invalid_option_is_named_without_a_traceback(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    data = write_rows(tmp_path / "data.jsonl")
    given = ["pool", "record", "--data", str(data), "--out", str(tmp_path / "pool.jsonl")]
    given += arguments if "--task" in arguments else ["--task", "math", *arguments]
    ended = piped(*given)
    assert ended.returncode == 2
    assert b"Traceback" not in ended.stderr
    assert re.search(message, ended.stderr.decode())
    assert not (tmp_path / "pool.jsonl").exists()


def test_an_invalid_row_ends_the_recording_before_any_sample(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "data.jsonl", [*ROWS, {"id": "d", "question": "Why?"}])
    given = ["pool", "record", "--data", str(data), "--task", "math"]
    ended = piped(*given, "--out", str(tmp_path / "p.jsonl"), "--", "--engine", "scripted")
    assert ended.returncode == 2
    assert f"{data}:4: answer is missing" in ended.stderr.decode()
    assert not (tmp_path / "p.jsonl").exists()


def test_samples_are_in_the_file_before_the_recording_ends(
    arguments: list[str], tmp_path: Path
) -> None:
    with started(arguments) as process:
        wait_for_samples(process, tmp_path / "pool.jsonl", 1)
        lines = (tmp_path / "pool.jsonl").read_text().splitlines()
        assert json.loads(lines[0])["kind"] == "pool"
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
