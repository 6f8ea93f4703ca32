"""Code that the service extracts from completions, over a real socket."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call
from tests.http.serving import Served, serving

ROWS = [
    json.loads(line)
    for line in Path(__file__).with_name("code_extract.jsonl").read_text().splitlines()
]


def reply(call: Call, _: int) -> Reply:
    """Reply with the text of the row whose number is the question."""
    return Reply(ROWS[int(call.messages[0].text)]["text"])


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(ScriptedEngine(reply)) as running:
        yield running


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_the_extracted_code_defines_the_name_and_passes_the_check(
    served: Served, number: int
) -> None:
    row = ROWS[number]
    body = {"question": str(number), "task": {"kind": "code"}, "strategy": "single"}
    document = served.post("/solve", body).json()
    names: dict[str, Any] = {}
    exec(document["answer"], names)
    assert row["must_define"] in names
    assert eval(row["check"], names)
