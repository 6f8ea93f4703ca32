"""`secondpass solve` in a pipe: the answer on stdout, everything else on stderr, and the exit code."""

import io
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from secondpass.service.cli.main import main
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.testing.support import constant_reply
from tests.cli.running import piped
from tests.http.serving import Served, serving

QUESTION = "What is 6 times 7?"
SLOW = "word " * 2000


@contextmanager
def replying(reply: bytes) -> Iterator[str]:
    """Yield the URL of a server that sends `reply` to one request and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                request = b""
                while not request.endswith(b"}"):  # unread bytes would reset the connection
                    request += client.recv(65536)
                client.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


def test_stdout_contains_only_the_answer(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", QUESTION, "--url", served.url]) == 0
    shown = capsys.readouterr()
    assert shown.out == "42\n"
    assert shown.err == ""


def test_the_text_is_printed_if_no_answer_was_extracted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "Dear \u2028 reader,\n[bold]hello[/bold]"
    with serving(ScriptedEngine(constant_reply(text))) as served:
        assert main(["solve", "Write a letter.", "--url", served.url, "--task", "open"]) == 0
    assert capsys.readouterr().out == text + "\n"


def test_json_is_the_answer_object_on_one_line(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--json", "--strategy", "self_consistency", "--n", "3", "--param", "stop=lead"]
    assert main(["solve", QUESTION, "--url", served.url, *arguments]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    answer = json.loads(shown.out)
    assert (answer["answer"], answer["params"]["n"], answer["params"]["stop"]) == ("42", 3, "lead")
    assert "trace" not in answer


def test_json_with_trace_contains_the_text_of_every_call(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", QUESTION, "--url", served.url, "--json", "--trace"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["trace"][0]["texts"] == [answer["text"]]


def test_the_trace_is_on_stderr_without_json(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", QUESTION, "--url", served.url, "--trace"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "42\n"
    assert "actor solve 1" in shown.err
    assert "Let me work it out" in shown.err


def test_every_option_reaches_the_server(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *("--task", "choice", "--option", "41", "--option", "42", "--model", "scripted", "--json"),
        *("--budget-tokens", "500", "--budget-calls", "9", "--deadline", "2.5"),
        *("--max-tokens", "100", "--temperature", "0.5", "--seed", "7"),
    ]
    assert main(["solve", "Which one?", "--url", served.url, *arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["task"] == {"kind": "choice", "options": ["41", "42"], "guessed": False}
    assert answer["budget"]["max_tokens"]["limit"] == 500
    assert answer["budget"]["max_calls"]["limit"] == 9
    assert answer["budget"]["deadline_ms"]["limit"] == 2500
    sampling = served.engine.calls[-1].sampling
    assert (sampling.temperature, sampling.seed) == (0.5, 7)
    assert sampling.max_tokens is not None
    assert sampling.max_tokens <= 100


def test_a_dash_reads_the_question_from_stdin(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = "Wie viel ist 6 · 7?\nNur die Zahl."
    stdin = io.TextIOWrapper(io.BytesIO(f"{question}\n".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["solve", "-", "--strategy", "single", "--url", served.url]) == 0
    assert served.engine.calls[-1].messages[-1].text == question


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "0", "--strategy", "self_consistency"], "--n: must be a whole number of 1"),
        (["--n", "x"], "--n"),
        (["--n", "8"], "--n and --param require --strategy"),
        (["--strategy", "magic"], "unknown strategy 'magic'"),
        (["--strategy", "self_consistency", "--param", "width"], "KEY=VALUE"),
        (["--strategy", "self_consistency", "--param", "wdth=1"], "strategy.params.wdth"),
        (["--strategy", "self_consistency", "--param", "n=1", "--n", "2"], "'n' is given twice"),
        (["--model", "other"], "models.actor"),
        (["--option", "a"], "--task choice"),
        (["--task", "choice", "--option", "a"], "task.options"),
        (["--budget-tokens", "0"], "budget.max_tokens"),
        (["--budget-tokens", "99999999999"], "budget.max_tokens"),
        (["--deadline", "-1"], "budget.deadline_ms"),
        (["--deadline", "inf"], "--deadline"),
        (["--temperature", "9"], "--temperature: must be at most 2, not '9'"),
        (["--seed", "-1"], "sampling.seed"),
        (["--url", "localhost:8000"], "--url"),
        (["--url", "http://"], "--url"),
        (["--url", "http://x:y"], "--url"),
        (["--api-key-env", "NOT_THERE"], "NOT_THERE"),
        (["--unknown"], "--unknown"),
        (["--", "--engine", "scripted"], "--engine"),
        (["--wait", "5"], "--wait needs --embedded"),
        (["--embedded"], "--url and --embedded exclude each other"),
    ],
)
def test_an_invalid_option_is_named_on_one_line_and_exits_with_2(
    served: Served, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["solve", QUESTION, "--url", served.url, *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert message in shown.err


@pytest.mark.parametrize("question", ["", "  ", "\udcff", "x" * 5_000_000])
def test_an_invalid_question_is_rejected(
    served: Served, capsys: pytest.CaptureFixture[str], question: str
) -> None:
    assert main(["solve", question, "--url", served.url]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1


def test_no_answer_within_the_budget_exits_with_3(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--strategy", "self_consistency", "--budget-tokens", "2"]
    assert main(["solve", QUESTION, "--url", served.url, *arguments]) == 3
    assert "budget.max_tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limit", "message"), [("--budget-tokens", "budget_tokens"), ("--max-tokens", "--max-tokens")]
)
def test_a_text_truncated_before_its_answer_is_printed_and_exits_with_3(
    served: Served, capsys: pytest.CaptureFixture[str], limit: str, message: str
) -> None:
    arguments = ["--strategy", "single", limit, "3"]
    assert main(["solve", QUESTION, "--url", served.url, *arguments]) == 3
    shown = capsys.readouterr()
    assert shown.out == "Let me work\n"
    assert message in shown.err
    assert main(["solve", QUESTION, "--url", served.url, "--json", *arguments]) == 3
    assert json.loads(capsys.readouterr().out)["finish_reason"] == "length"


def test_no_answer_within_the_deadline_exits_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(ScriptedEngine(first_token=5)) as served:
        assert main(["solve", QUESTION, "--url", served.url, "--deadline", "0.2"]) == 3
    assert "within the deadline of 200 ms; raise budget.deadline_ms" in capsys.readouterr().err


def test_an_engine_failure_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(ScriptedEngine(lambda _call, _index: Reply("", fault="unavailable"))) as served:
        assert main(["solve", QUESTION, "--url", served.url]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "unavailable by the script" in shown.err


def test_an_unreachable_server_is_one_line_with_advice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert main(["solve", QUESTION, "--url", url]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert url in shown.err
    assert "secondpass serve" in shown.err


EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


@pytest.mark.parametrize(
    ("reply", "code", "message"),
    [
        (b"", 1, "without sending a response"),
        (
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno!",
            2,
            "is not a secondpass server",
        ),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nno!", 1, "is not a secondpass server"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 1, "not an event stream"),
        (EVENTS + b"content-length: 13\r\n\r\n: keep-alive\n", 1, "before the answer"),
        (
            EVENTS + b"content-length: 9\r\n\r\ndata: x\n\n",
            1,
            "events are not those of a secondpass server",
        ),
        (
            EVENTS + b"content-length: 10\r\n\r\ndata: {}\n\n",
            1,
            "events are not those of a secondpass server",
        ),
        (
            EVENTS + b"content-length: 19\r\n\r\nevent: a\ndata: []\n\n",
            1,
            "events are not those of a secondpass server",
        ),
        (EVENTS + b"content-length: 90\r\n\r\n: keep-alive\n\n", 1, "peer closed"),
    ],
)
def test_a_response_of_another_server_is_one_line(
    capsys: pytest.CaptureFixture[str], reply: bytes, code: int, message: str
) -> None:
    with replying(reply) as url:
        assert main(["solve", QUESTION, "--url", url]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert message in shown.err


def test_the_api_key_is_read_from_the_named_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"us:{sha256(b'open sesame').hexdigest()}\n")
    monkeypatch.setenv("OUR_KEY", "open sesame")
    monkeypatch.setenv("BAD_KEY", "öffne")
    with serving(api_keys_file=keys) as served:
        at = ["solve", QUESTION, "--url", served.url]
        assert main(at) == 2
        assert "--api-key-env" in capsys.readouterr().err
        assert main([*at, "--api-key-env", "BAD_KEY"]) == 2
        assert main([*at, "--api-key-env", "OUR_KEY"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "42\n"
    assert "sesame" not in shown.err


def test_a_question_that_is_not_utf_8_is_rejected(served: Served) -> None:
    ended = piped("solve", "-", "--url", served.url, stdin=b"6 \xff 7")
    assert ended.returncode == 2
    assert ended.stderr == b"secondpass solve: the question on stdin is not UTF-8: byte 2\n"


def test_characters_that_stdout_cannot_encode_are_replaced() -> None:
    with serving(ScriptedEngine(constant_reply("caf\u00e9"))) as served:
        ended = piped(
            "solve", "Where?", "--url", served.url, "--task", "open", PYTHONIOENCODING="ascii"
        )
    assert ended.returncode == 0
    assert ended.stdout == b"caf?\n"
