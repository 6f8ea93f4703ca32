"""Answer classes of drafts, over a real socket: equal answers share the vote, different ones split it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call
from tests.equivalence.math_pairs import math_pairs
from tests.http.serving import Json, Served, serving

PAIRS = math_pairs("math_equal", "math_equal_more")
MATH = {"kind": "math"}


def _draft(call: Call, index: int) -> Reply:
    """Return the draft that the question asks for, `pair NUMBER ORDER`."""
    _, number, order = call.messages[-1].text.split()[:3]
    answers = PAIRS[int(number)][:2]
    return Reply(rf"So \boxed{{{answers[(index + int(order)) % 2]}}}.")


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


def _solved(drafts: Sequence[str], question: str = "How long?", **params: object) -> Json:
    """Return the response of a vote over drafts that finish in order."""

    def draft(_: Call, index: int) -> Reply:
        return Reply(rf"So \boxed{{{drafts[index]}}}.")

    vote = {"name": "self_consistency", "params": {"n": len(drafts), "width": 1} | params}
    with serving(ScriptedEngine(draft)) as served:
        document: Json = served.solve(question=question, strategy=vote, task=MATH).json()
        return document


def test_a_later_draft_splits_the_class_of_an_answer_without_a_unit() -> None:
    solved = _solved(["18", "18 cm", "18 m", "18 m"], stop="none")
    assert (solved["answer"], solved["confidence"]) == ("18 m", 0.5)


def test_the_unit_that_the_question_names_joins_answers_without_a_unit() -> None:
    drafts = ["18 m", "18 cm", "18", "18 m", "18"]
    solved = _solved(drafts, "How many centimeters long is it?", stop="none")
    assert (solved["answer"], solved["confidence"]) == ("18 cm", 0.6)


@pytest.mark.parametrize(
    ("drafts", "share"),
    [
        (
            ["18", "18 cm", "18", "18 m", "18"],
            1,
        ),  # one unit: the first three agree, and the vote is decided
        (
            ["18", "18 cm", "18 m", "18", "18"],
            0.6,
        ),  # two units: the second draft left the class of the first
        (["18 cm", "18 m", "18", "18", "18"], 0.6),
        (["18 m", "18", "1800 cm", "18", "18 m"], 0.6),
    ],
)
def test_a_stopping_rule_reads_classes_again_after_each_draft(
    drafts: list[str], share: float
) -> None:
    assert _solved(drafts, stop="lead")["confidence"] == share


@pytest.mark.parametrize("order", list(permutations(["18 cm", "18", "18 m", "18 m"])))
def test_the_order_of_drafts_never_changes_the_result_of_a_full_vote(
    order: tuple[str, ...],
) -> None:
    solved = _solved(order, stop="none", weight="none")
    assert (solved["answer"], solved["confidence"]) == ("18 m", 0.5)
