"""Answer classes of drafts, over a real socket: equal answers share the vote, different ones split it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call
from tests.equivalence.math_pairs import math_pairs
from tests.http.serving import Served, serving

PAIRS = math_pairs()
MATH = {"kind": "math"}


def _draft(call: Call, index: int) -> Reply:
    """Return the draft that the question asks for, `pair NUMBER ORDER`."""
    _, number, order = call.messages[-1].text.split()[:3]
    answers = PAIRS[int(number)][:2]
    return Reply(rf"So \boxed{{{answers[(call.index + index + int(order)) % 2]}}}.")


def _share(served: Served, number: int, order: int) -> float:
    vote = {"name": "self_consistency", "params": {"n": 2, "stop": "none"}}
    answer = served.solve(question=f"pair {number} {order}", strategy=vote, task=MATH)
    assert answer.status_code == 200, answer.text
    return float(answer.json()["confidence"])


@pytest.mark.parametrize("order", [0, 1])
def test_equal_answers_are_one_class_in_either_order(order: int) -> None:
    with serving(ScriptedEngine(_draft)) as served, ThreadPoolExecutor(8) as pool:
        shares = list(pool.map(lambda at: _share(served, at, order), range(len(PAIRS))))
    wrong = [pair for pair, share in zip(PAIRS, shares, strict=True) if (share == 1) != pair.same]
    assert wrong == []


def test_a_later_draft_splits_the_class_of_an_answer_without_a_unit() -> None:
    drafts = ["18", "18 cm", "18 m", "18 cm"]

    def draft(call: Call, index: int) -> Reply:
        return Reply(rf"So \boxed{{{drafts[call.index + index]}}}.")

    with serving(ScriptedEngine(draft)) as served:
        vote = {"name": "self_consistency", "params": {"n": 4, "stop": "none"}}
        solved = served.solve(question="How long?", strategy=vote, task=MATH).json()
    assert solved["answer"] == "18 cm"
    assert solved["confidence"] == 0.5
