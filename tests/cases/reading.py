"""Rows of completions, and a service whose engine replies with the row that a question names."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call
from tests.http.serving import Served, serving

Row = dict[str, Any]


def rows_of(name: str) -> list[Row]:
    """Return the rows of a file in this folder."""
    lines = Path(__file__).with_name(f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@contextmanager
def replying(rows: list[Row]) -> Iterator[Served]:
    """Run a service whose completion for the question "row N" is the text of row N."""

    def script(call: Call, _: int) -> Reply:
        question = next(message.text for message in call.messages if "row " in message.text)
        number = question.partition("row ")[2].split()[0]
        return Reply(rows[int(number)]["text"])

    with serving(ScriptedEngine(script)) as served:
        yield served


def answer_over_http(served: Served, number: int, task: Row) -> str | None:
    """Return the answer that POST /solve extracts from the text of a row."""
    reply = served.post("/solve", {"question": f"row {number}", "strategy": "single", "task": task})
    assert reply.status_code == 200, reply.text
    answer: str | None = reply.json()["answer"]
    return answer
