"""Code answers are run against the tests of the request, in the real sandbox."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secondpass.service.cli.main import main
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api import registry
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.registry import Params, Strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate
from tests.http.serving import Json, Served, serving
from tests.polling import wait_until
from tests.sandbox.sandboxes import sandboxes

RIGHT = "def add(a, b):\n    return a + b"
WRONG = "def add(a, b):\n    print('subtracting')\n    return a - b"
SLEEPY = "import time\ntime.sleep(60)"
TESTS = "assert add(2, 3) == 5\nassert add(-1, 1) == 0\n"


async def until_one_passes(run: Run, _: Params) -> Candidate:
    """Draw up to three drafts and verify each twice, until one passes."""
    for index in range(3):
        run.elect(candidate := run.candidate(await run.ask(SOLVE, index=index)))
        verdict = await run.verify(candidate)
        assert await run.verify(candidate) == verdict
        if verdict is None or verdict.accepted:
            run.note("verdict", "none" if verdict is None else f"{verdict.score}")
            break
        run.note(f"draft {index}", verdict.reasons)
    return run.best


@pytest.fixture(autouse=True)
def _strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Strategy(
        "tested",
        until_one_passes,
        Params,
        None,
        "execution",
        "select",
        {},
        streams=False,
        module=__name__,
    )
    monkeypatch.setitem(registry._registered, "tested", spec)


def drafts(call: Call, index: int) -> Reply:
    """Two equal wrong drafts and then a right one, or code that sleeps or is truncated."""
    prompt = call.messages[0].text
    code = SLEEPY if "sleepy" in prompt else RIGHT if index == 2 else WRONG
    end = "" if "broken" in prompt else "\n```"
    return Reply(f"Here it is.\n\n```python\n{code}{end}")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(ScriptedEngine(drafts), sandbox=True) as running:
        yield running


def code_for(question: str = "Write add(a, b).", tests: str = TESTS, **more: Any) -> Json:
    task = {"kind": "code", "tests": tests}
    return {"question": question, "task": task, "strategy": "tested", "trace": "summary"} | more


def verdicts(document: Json) -> list[Json]:
    return [event for event in document["trace"] if event["type"] == "verdict"]


def test_code_is_tested_and_equal_code_only_once(served: Served) -> None:
    document = served.post("/solve", code_for()).json()
    assert document["answer"] == RIGHT
    assert document["notes"]["verdict"] == "1.0"
    for index in (0, 1):
        assert "line 1 of the tests: assert add(2, 3) == 5" in document["notes"][f"draft {index}"]
        assert document["notes"][f"draft {index}"].endswith("subtracting")
    assert [(seen["role"], seen["verdict"]) for seen in verdicts(document)] == [
        ("verifier", "failed"),
        ("verifier", "passed"),
    ]
    timing = document["timing"]
    assert (
        timing["orchestration"]
        < timing["total"] - 1e3 * sum(seen["seconds"] for seen in verdicts(document)) + 5
    )
    metrics = served.get("/metrics").text
    assert 'secondpass_answers_tested_total{status="failed"} 1.0' in metrics
    assert 'secondpass_answers_tested_total{status="passed"} 1.0' in metrics


def test_a_chat_request_may_contain_tests(served: Served) -> None:
    body = {
        "model": "scripted@tested",
        "messages": [{"role": "user", "content": "Write add(a, b)."}],
        "secondpass": {"task": {"kind": "code", "tests": TESTS}},
    }
    reply = served.post("/v1/chat/completions", body).json()
    assert RIGHT in reply["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ("assert add(", "the tests "),
        ("assert 1 + 2 == 3", "they assert nothing about the code"),
    ],
)
def test_tests_that_cannot_run_give_no_verdict(served: Served, tests: str, reason: str) -> None:
    document = served.post("/solve", code_for(tests=tests)).json()
    assert document["notes"]["verdict"] == "none"
    assert document["notes"]["tests"].startswith(f"the tests could not be run: {reason}")
    assert {seen["verdict"] for seen in verdicts(document)} == {"error"}


def test_a_task_without_tests_has_no_verifier(served: Served) -> None:
    document = served.post("/solve", code_for() | {"task": {"kind": "code"}}).json()
    assert document["notes"] == {"verdict": "none"}


def test_truncated_code_is_not_tested(served: Served) -> None:
    document = served.post("/solve", code_for("It is broken.", sampling={"max_tokens": 5})).json()
    assert not verdicts(document)
    assert document["notes"]["draft 0"] == "there is no finished code in it"


def test_the_deadline_stops_a_running_test(served: Served) -> None:
    document = served.post("/solve", code_for("Be sleepy.", budget={"deadline_ms": 1500})).json()
    assert document["stop_reason"] == "deadline"
    assert document["answer"] == SLEEPY
    assert 1500 <= document["timing"]["total"] < 4000
    assert document["timing"]["orchestration"] < 500
    wait_until(lambda: not sandboxes())


def test_a_disconnect_stops_a_running_test(served: Served) -> None:
    with served.open("/solve", code_for("Be sleepy.")):
        wait_until(lambda: bool(sandboxes()))
    wait_until(lambda: not sandboxes() and not len(served.service.traffic))


def test_an_unavailable_sandbox_is_noted(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    document = served.post("/solve", code_for()).json()
    assert document["notes"]["verdict"] == "none"
    assert "apt-get install bubblewrap" in document["notes"]["tests"]


def test_a_server_whose_sandbox_is_unavailable_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["serve", "--engine", "scripted", "--port", "0", "--sandbox"]) == 2
    stderr = capsys.readouterr().err
    assert "sandbox" in stderr
    assert "apt-get install bubblewrap" in stderr
