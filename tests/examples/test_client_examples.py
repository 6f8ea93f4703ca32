"""The client examples in `examples/`, each run as a separate process against a service on a socket."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.running import ROOT, surroundings
from tests.http.serving import Json, events_of, serving
from tests.polling import wait_until
from tools.local_vllm import VllmServer

EXAMPLES = ROOT / "examples"
CURL = ("sh", str(EXAMPLES / "curl.sh"))
OPENAI = (sys.executable, str(EXAMPLES / "openai_sdk.py"))
LANGCHAIN = (sys.executable, str(EXAMPLES / "langchain_chat.py"))
MAX_LINES = 60


@dataclass(frozen=True)
class Target:
    """A service, its model, and the answer of the model if it is known."""

    url: str
    model: str
    answer: str | None = None


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The service in front of the scripted engine, or of a real vLLM."""
    if request.param == "scripted":
        with serving() as served:
            yield Target(served.url, "scripted", "42")
    else:
        vllm: VllmServer = request.getfixturevalue("vllm_server")
        name = vllm.model_name
        with serving(engine="http", engine_url=vllm.base_url, model=name) as served:
            wait_until(lambda: served.get("/readyz").status_code == 200, 20, "not ready")
            yield Target(served.url, name)


on_both_engines = pytest.mark.parametrize(
    "target",
    [
        pytest.param("scripted", marks=pytest.mark.compat),
        pytest.param("vllm", marks=pytest.mark.vllm),
    ],
    indirect=True,
)


def run(command: tuple[str, ...], url: str, **more: str) -> "subprocess.CompletedProcess[str]":
    env = surroundings(BASE_URL=url, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1", **more)
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False
    )


def output_of(command: tuple[str, ...], target: Target) -> str:
    """Return the output of an example, which must succeed without a warning."""
    ended = run(command, target.url)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


def printed_by(command: tuple[str, ...], target: Target, *labels: str) -> dict[str, str]:
    """Return the text after each label at the start of a line, up to the next label."""
    output = output_of(command, target)
    before, *parts = re.split(rf"(?m)^({'|'.join(labels)}): ", output)
    assert (before, tuple(parts[::2])) == ("", labels), output
    return {label: text.strip() for label, text in zip(parts[::2], parts[1::2], strict=True)}


def assert_answers(text: str, target: Target) -> None:
    assert text.strip()
    assert target.answer is None or text.endswith(f"\\boxed{{{target.answer}}}.")


def assert_voted(report: Json, target: Target) -> None:
    assert report["strategy"] == "self_consistency"
    assert report["stop_reason"] in {"finished", "consensus"}
    assert report["usage"]["actor"]["calls"] == 3
    assert target.answer in {None, report["answer"]}


@on_both_engines
def test_curl_example_returns_json_events_and_a_chat_completion(target: Target) -> None:
    before, solved, streamed, chat = re.split(r"(?m)^# POST .*\n", output_of(CURL, target))
    assert before == ""
    assert_answers(json.loads(solved)["text"], target)
    assert_voted(json.loads(solved), target)

    events = events_of(streamed.strip())
    assert (events[0][0], events[-1][0]) == ("run.started", "run.finished")
    text = "".join(data["text"] for name, _, data in events if name == "answer.delta")
    assert_answers(text, target)
    assert text == events[-1][2]["text"]

    completion = json.loads(chat)
    assert completion["model"] == f"{target.model}@self_consistency"
    assert_answers(completion["choices"][0]["message"]["content"], target)
    assert_voted(completion["secondpass"], target)


@on_both_engines
def test_openai_example_returns_answers_a_report_a_stream_and_an_error(target: Target) -> None:
    labels = ("plain", "strategy", "answer", "confidence", "stop_reason", "stream", "error")
    printed = printed_by(OPENAI, target, *labels)
    for label in ("plain", "strategy", "stream"):
        assert_answers(printed[label], target)
    assert target.answer in {None, printed["answer"]}
    assert printed["confidence"] == "None" or 0 < float(printed["confidence"]) <= 1
    assert printed["stop_reason"] in {"finished", "consensus"}
    assert printed["error"] == "400 invalid_request secondpass.params.n"


@on_both_engines
def test_langchain_example_returns_answers_a_stream_and_token_usage(target: Target) -> None:
    printed = printed_by(LANGCHAIN, target, "invoke", "options", "usage", "stream")
    for label in ("invoke", "options", "stream"):
        assert_answers(printed[label], target)
    reasoning = re.search(r"'reasoning': (\d+)", printed["usage"])
    assert reasoning
    assert int(reasoning[1]) > 0, "expected the tokens of the drafts that were not selected"


@pytest.mark.compat
@pytest.mark.parametrize(
    ("command", "refused"),
    [
        (CURL, "error: 401"),
        (OPENAI, "openai.AuthenticationError: Error code: 401"),
        (LANGCHAIN, "openai.AuthenticationError: Error code: 401"),
    ],
    ids=["curl", "openai", "langchain"],
)
def test_examples_send_the_api_key_and_fail_with_a_wrong_key(
    command: tuple[str, ...], refused: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"team:{hashlib.sha256(b'right').hexdigest()}\n")
    keys.chmod(0o600)
    with serving(api_keys_file=keys) as served:
        right, wrong = (run(command, served.url, API_KEY=key) for key in ("right", "wrong"))
    assert right.returncode == 0, right.stderr
    assert wrong.returncode != 0
    assert refused in wrong.stderr


def test_readme_lists_exactly_the_examples() -> None:
    rows = re.findall(r"(?m)^\| \[([\w./]+)\]\(([\w.]+)\) \|", (EXAMPLES / "README.md").read_text())
    assert all(label.rstrip("/") == link for label, link in rows)
    there = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith(("_", "."))}
    assert sorted(link for _, link in rows) == sorted(there - {"README.md"})


@pytest.mark.parametrize("pattern", ["*.sh", "*.py", "external_strategy/src/*/*.py"])
def test_examples_are_short(pattern: str) -> None:
    lengths = {path: path.read_text().count("\n") for path in EXAMPLES.glob(pattern)}
    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}
