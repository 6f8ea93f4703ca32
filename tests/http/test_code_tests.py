"""Code tasks with tests over a real socket: right code is accepted, wrong code never."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call
from tests.http.serving import Json, Served, serving

CASES = Path(__file__).parents[1] / "cases/code_tests.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text().splitlines()]
RIGHT, WRONG = "def add(a, b):\n    return a + b", "def add(a, b):\n    return 0"


def drafts(call: Call, index: int) -> Reply:
    """Right or wrong code, as the question asks; a mixed question has one right draft of four."""
    prompt = call.messages[0].text
    is_right = index == 2 if "mixed" in prompt else "right" in prompt
    return Reply(f"Here:\n\n```python\n{RIGHT if is_right else WRONG}\n```\n\nOutput:\n```\n3\n```")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(ScriptedEngine(drafts), sandbox=True) as running:
        yield running


def solved(served: Served, question: str, tests: str, strategy: str = "single") -> Json:
    body: Json = {"question": question, "task": {"kind": "code", "tests": tests}}
    params = {"n": 4, "stop": "none"} if strategy == "self_consistency" else {}
    body["strategy"] = {"name": strategy, "params": params}
    document: Json = served.post("/solve", body).json()
    return document


@pytest.mark.parametrize("row", ROWS, ids=[row["shape"] for row in ROWS])
def test_recorded_tests_accept_right_code_only(served: Served, row: dict[str, str]) -> None:
    right = solved(served, "right", row["tests"])
    if right["confidence_kind"] == "tests":
        assert right["confidence"] == 1.0
    else:
        assert right["notes"]["tests"].startswith("the tests could not be run: ")
        assert row["shape"] in ("comment only", "pass")
    wrong = solved(served, "wrong", row["tests"])
    assert (wrong["confidence_kind"], wrong["confidence"]) in ((None, None), ("tests", 0.0))


def test_a_draft_that_passes_wins_over_the_majority(served: Served) -> None:
    document = solved(served, "mixed", "assert add(1, 2) == 3", "self_consistency")
    assert document["answer"] == RIGHT
    assert (document["confidence_kind"], document["confidence"]) == ("tests", 1.0)


def test_a_streamed_answer_is_tested_but_not_replaced(served: Served) -> None:
    body = {
        "model": "scripted@single",
        "stream": True,
        "messages": [{"role": "user", "content": "wrong"}],
        "secondpass": {"task": {"kind": "code", "tests": "assert add(1, 2) == 3"}},
    }
    text = served.post("/v1/chat/completions", body).text
    assert '"confidence_kind":"tests"' in text.replace(" ", "")
    assert '"confidence":0.0' in text.replace(" ", "")


FORGED_REPORT = """
import os, socket
for descriptor in range(64):
    for line in (b'{"status": "forged\\nstatus", "why": []}\\n', b'fof\\x1b[0m' + b'why' * 9000, b'x'):
        try:
            os.write(descriptor, line)
        except OSError:
            pass
os._exit(0)
"""


def test_a_report_that_tests_forge_is_neither_an_error_of_the_service_nor_a_label(
    served: Served,
) -> None:
    document = solved(served, "right", FORGED_REPORT)
    assert (document["confidence_kind"], document["confidence"]) == ("tests", 0.0), document[
        "notes"
    ]
    labels = re.findall(
        r'secondpass_answers_tested_total{status="(.*)"}', served.get("/metrics").text
    )
    assert labels
    assert set(labels) <= {"passed", "failed", "timeout", "error", "none"}
