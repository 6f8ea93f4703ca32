"""Texts that a client or a model writes never stop the event loop."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.attacks.replies import writes
from tests.attacks.victim import Json, Victim, attack, victim

pytestmark = pytest.mark.faults

KILOBYTE = 1000


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with victim(tmp_path_factory.mktemp("texts")) as started:
        yield started


def filled(opener: str, size: int) -> str:
    return (opener * (size // len(opener) + 1))[:size]


OPENERS = {
    "bars": "<|",
    "wide bars": "<\uff5c",
    "angles and bars": "<<<|||",
    "line ends": "\n",
    "spaces": " ",
    "fences": "```\n",
    "fences in a line": "```python ",
    "boxes": "\\boxed{",
    "braces": "{",
    "brackets": "[",
    "parentheses": "(",
    "objects": '{"a":',
    "markers": "Answer: ",
    "digits": "1",
    "grouped digits": "1,",
    "fractions": "\\frac{1}{",
    "dollars": "$",
    "stars": "**",
    "steps": "Step 1: ",
    "options": "(A) ",
}
RUNS = {
    "an angle and bars": ("<", "|"),
    "an angle and spaces": ("<", " "),
    "angles and then bars": ("<" * 2000, "|"),
    "a bracket and spaces": ("[", " "),
    "a fence and spaces": ("```", " "),
    "a marker and spaces": ("Answer:", " "),
    "a heading and line ends": ("#", "\n"),
}
"""A head that is followed by one repeated unit."""

STRATEGIES: dict[str, Json] = {
    "self_consistency": {"n": 2},
    "self_refine": {},
    "critic_retry": {"n": 2},
    "meta_rm": {"n": 2},
    "self_prm": {"n": 2},
}


SHAPES = {name: ("", opener) for name, opener in OPENERS.items()} | RUNS


@pytest.mark.parametrize(("head", "unit"), SHAPES.values(), ids=list(SHAPES))
def test_a_model_that_repeats_itself(attacked: Victim, head: str, unit: str) -> None:
    text = head + filled(unit, 60 * KILOBYTE)
    attacked.upstream.chat = writes(f"{text}\nThe answer is 42.", text, f"42\n{text}")
    with attack(attacked):
        for name, params in STRATEGIES.items():
            for kind in ("math", "open"):
                body = {"question": "Is it?", "task": {"kind": kind}, "budget": {"partial": True}}
                reply = attacked.post(
                    "/solve", body | {"strategy": {"name": name, "params": params}}
                )
                assert reply.status_code < 500 or reply.json()["code"] in ALLOWED, reply.text


ALLOWED = ("engine_failed", "budget_exhausted", "deadline_exceeded", "no_answer")


@pytest.mark.parametrize(("head", "unit"), SHAPES.values(), ids=list(SHAPES))
def test_a_question_that_repeats_itself(attacked: Victim, head: str, unit: str) -> None:
    attacked.upstream.chat = writes("The answer is 42.")
    text = head + filled(unit, 100 * KILOBYTE)
    with attack(attacked):
        for strategy in ("single", "self_consistency", None):
            body: Json = {"question": f"What is it? {text}"}
            reply = attacked.post("/solve", body | ({"strategy": strategy} if strategy else {}))
            assert reply.status_code in (200, 422), reply.text


def objects(size: int, levels: int) -> str:
    """Return a JSON object of about `size` characters, nested `levels` deep with many fields each."""
    value: Json = {}
    inner = value
    for level in range(levels):
        inner[f"key {level}"] = inner = {}
    for number in range(size // 12):
        inner[f"f{number}"] = number
    return json.dumps(value)


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    ("text", "samples"),
    [
        (objects(200 * KILOBYTE, 1), 2),
        (objects(24 * KILOBYTE, 200), 64),
        (objects(24 * KILOBYTE, 900), 64),
        (deep(900), 64),
        ('{"a": 1e999999999}', 8),
        ('{"a": ' + "9" * 20000 + "}", 8),
    ],
    ids=["two large", "many", "many and deep", "deep", "exponent", "digits"],
)
def test_a_vote_over_large_objects(attacked: Victim, text: str, samples: int) -> None:
    texts = [text.replace("1", str(number)) for number in range(10)]
    attacked.upstream.chat = writes(*texts)
    with attack(attacked):
        params = {"n": samples, "stop": "none"}
        body: Json = {"question": "Return JSON.", "task": {"kind": "open"}}
        strategy = {"name": "self_consistency", "params": params}
        reply = attacked.post("/solve", body | {"strategy": strategy})
        assert reply.status_code == 200, reply.text
