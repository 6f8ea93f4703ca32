"""Field votes: fields of an object, the elected object, and that no object is ever constructed."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.strategies.api.values import Candidate
from secondpass.strategies.voting.json_fields import FieldVote, fields_of
from secondpass.testing.support import MATH, OPEN, assert_accounting_is_complete, make_run

leaves = st.none() | st.booleans() | st.integers() | st.sampled_from(["a", "b", "~/"])
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), inner),
    max_leaves=6,
)
TEXTS = ('{"a": 1, "b": "x"}', '{"a": 2, "b": "y"}', '{"a": 2, "b": "y"}', '{"a": 2, "b": "x"}')

objects = st.dictionaries(st.sampled_from(["x", "y", "a/b", ""]), values, max_size=4)


def candidate(text: str, index: int = 0) -> Candidate:
    return Candidate(text=text, answer=text, index=index)


def elected(*texts: str) -> FieldVote:
    vote = FieldVote()
    for index, text in enumerate(texts):
        vote.add(candidate(text, index))
    return vote


# -- fields of an object ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"a": 1}', {"/a": "1"}),
        ('{"a": {"b": [1, {"c": null}]}}', {"/a/b": '[1,{"c":null}]'}),
        ('{"a/b": 1, "~": true}', {"/a~1b": "1", "/~0": "true"}),
        ('{"a": {}}', {"/a": "{}"}),
        ("{}", {"": "{}"}),
        ('Here it is:\n```json\n{"a": "x"}\n```\nDone.', {"/a": '"x"'}),
        ('{"a": "```"}', {"/a": '"```"'}),
    ],
)
def test_fields_have_pointers_and_lists_are_values(text: str, fields: dict[str, str]) -> None:
    assert fields_of(text) == fields


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "1",
        '"{}"',
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": 1} and so on',
        'It is {"a": 1}',
        '```\n{"a": 1}\n```\n```\n{"a": 2}\n```',
        '```python\n{"a": 1}\n```',
        "{" * 100_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}",
    ],
)
def test_a_text_that_is_not_an_object_has_no_fields(text: str) -> None:
    assert fields_of(text) is None


def test_numbers_are_equal_by_value_and_never_true() -> None:
    same = [fields_of(f'{{"a": {n}}}') for n in ("1", "1.0", "1e0", "10E-1")]
    assert all(fields == {"/a": "1"} for fields in same)
    assert fields_of('{"a": true}') != same[0]
    assert fields_of('{"a": "1"}') != same[0]
    assert fields_of('{"a": -0.0}') == fields_of('{"a": 0}')
    assert fields_of('{"a": 1e999999999}') is not None
    long = "1" * 5000
    assert fields_of(f'{{"a": {long}}}') != fields_of(f'{{"a": {long[:-1]}2}}')


@given(objects)
def test_fields_do_not_depend_on_the_serialisation(found: dict[str, Any]) -> None:
    shuffled = dict(reversed(found.items()))
    expected = fields_of(json.dumps(found))
    assert expected is not None
    assert fields_of(json.dumps(shuffled, indent=2)) == expected
    assert fields_of(f"```json\n{json.dumps(found, ensure_ascii=False)}\n```") == expected


@given(objects, objects)
def test_different_objects_never_have_equal_fields(a: dict[str, Any], b: dict[str, Any]) -> None:
    plain_a, plain_b = (json.dumps(each, sort_keys=True) for each in (a, b))
    assert (fields_of(plain_a) == fields_of(plain_b)) == (plain_a == plain_b)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    fields_of(text)


# -- the elected object --------------------------------------------------------------------------------------


def test_each_field_is_decided_by_its_own_majority() -> None:
    texts = (
        '{"name": "Ann", "age": 30, "city": "Rome"}',
        '{"name": "Ann", "age": 31, "city": "Rome"}',
        '{"name": "Anne", "age": 30, "city": "Rome"}',
        '{"name": "Ann", "age": 30, "city": "Bonn"}',
    )
    vote = elected(*texts)
    assert vote.leader is not None
    assert vote.leader.text == texts[0]
    assert vote.shares == {"/name": 0.75, "/age": 0.75, "/city": 0.75}
    assert (vote.leader.score, vote.leader.score_kind) == (0.75, "field_share")
    assert vote.leader.why == "3 of 3 fields as in most of 4 objects"


def test_without_an_object_that_has_all_majority_values_the_nearest_one_is_elected() -> None:
    texts = ('{"a": 1, "b": 2, "c": 9}', '{"a": 1, "b": 8, "c": 3}', '{"a": 7, "b": 2, "c": 3}')
    vote = elected(*texts)
    assert vote.leader is not None
    assert vote.leader.text == texts[0]
    assert vote.leader.why == "2 of 3 fields as in most of 3 objects"
    assert vote.shares["/c"] == vote.leader.score == pytest.approx(1 / 3)


def test_a_field_that_most_objects_lack_counts_against_those_that_have_it() -> None:
    vote = elected('{"a": 1, "b": 2}', '{"a": 1}', '{"a": 1}')
    assert vote.leader is not None
    assert vote.leader.index == 1
    assert vote.shares == {"/a": 1.0}


def test_one_object_or_a_minority_of_them_elects_nothing() -> None:
    assert elected('{"a": 1}').leader is None
    assert elected('{"a": 1}', '{"a": 1}', "It is 1.", "No.").leader is None
    assert elected('{"a": 1}', "It is 1.", '{"a": 1}').leader is not None


def test_a_truncated_candidate_does_not_count() -> None:
    vote = elected('{"a": 1}', '{"a": 2}', '{"a": 2}')
    before = vote.leader
    truncated = Candidate(text='{"a": 1}', index=3, finish_reason="length")
    assert vote.add(truncated) == before


@given(st.lists(st.sampled_from([*TEXTS, "{}", "none"]), min_size=1, max_size=6), st.randoms())
def test_the_order_of_arrival_never_changes_the_elected_object(
    texts: list[str], chance: random.Random
) -> None:
    numbered = list(enumerate(texts))
    votes = []
    for _ in range(2):
        votes.append(vote := FieldVote())
        for index, text in numbered:
            vote.add(candidate(text, index))
        chance.shuffle(numbered)
    assert votes[0].leader == votes[1].leader
    assert votes[0].shares == votes[1].shares


@given(st.lists(objects, min_size=2, max_size=6))
def test_the_elected_text_is_always_the_nearest_given_one(
    found: list[dict[str, Any]],
) -> None:
    texts = [json.dumps(each) for each in found]
    vote = elected(*texts)
    assert vote.leader is not None
    assert vote.leader.text == texts[vote.leader.index]
    assert vote.leader.score == min(vote.shares.values())
    assert all(0 < share <= 1 for share in vote.shares.values())
    everything = [fields_of(text) or {} for text in texts]
    majority = {
        path: Counter(fields.get(path) for fields in everything).most_common(1)[0][0]
        for fields in everything
        for path in fields
    }
    nearness = [
        sum(fields.get(path) == value for path, value in majority.items()) for fields in everything
    ]
    assert nearness[vote.leader.index] == max(nearness)


@given(st.lists(objects, min_size=3, max_size=6), objects)
def test_the_most_frequent_object_is_always_elected(
    others: list[dict[str, Any]], favourite: dict[str, Any]
) -> None:
    text = json.dumps(favourite)
    vote = elected(*map(json.dumps, others), *[text] * (len(others) + 1))
    assert vote.leader is not None
    assert fields_of(vote.leader.text) == fields_of(text)
    assert min(vote.shares.values()) > 0.5


# -- in a run -----------------------------------------------------------------------------------------------


def drafts(*texts: str) -> ScriptedEngine:
    return ScriptedEngine(lambda _, index: Reply(texts[index]))


@pytest.mark.anyio
async def test_the_response_contains_the_confidence_of_each_field() -> None:
    engine = drafts(*TEXTS)
    run = make_run(engine, "self_consistency", {"n": 4, "width": 1}, task=OPEN)
    outcome = await execute(run)
    assert outcome.candidate.text == TEXTS[3]
    assert json.loads(outcome.notes["fields"]) == {"/a": 0.75, "/b": 0.5}
    assert (outcome.confidence, outcome.confidence_kind) == (0.5, "field_share")
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
async def test_of_many_fields_those_with_the_lowest_share_are_listed_and_the_others_counted() -> (
    None
):
    text = json.dumps({f"f{i}": i for i in range(70)})
    run = make_run(drafts(text, text), "self_consistency", {"n": 2}, task=OPEN)
    outcome = await execute(run)
    assert len(json.loads(outcome.notes["fields"])) == 64
    assert outcome.notes["other fields"].startswith("6 more")


@pytest.mark.anyio
@pytest.mark.parametrize(("fields", "task"), [("off", OPEN), ("auto", MATH)])
async def test_fields_vote_only_if_enabled_and_in_open_tasks(fields: str, task: Any) -> None:
    params = {"n": 4, "width": 1, "fields": fields}
    outcome = await execute(make_run(drafts(*TEXTS), "self_consistency", params, task=task))
    assert "fields" not in outcome.notes
    assert outcome.confidence_kind != "field_share"


@pytest.mark.anyio
async def test_open_answers_are_not_weighted_and_a_note_reports_it() -> None:
    for weight in ("confidence", "p_true"):
        engine = drafts(*TEXTS)
        params = {"n": 4, "width": 1, "weight": weight}
        outcome = await execute(make_run(engine, "self_consistency", params, task=OPEN))
        assert outcome.notes["weight"].startswith("none:")
        assert "judge" not in outcome.notes
        assert {call.role for call in engine.calls} == {"actor"}


@pytest.mark.anyio
async def test_a_truncated_answer_has_no_vote() -> None:
    long = '{"a": 2, "b": "y", "c": "' + "word " * 300
    engine = drafts(TEXTS[0], long, TEXTS[0])
    outcome = await execute(make_run(engine, "self_consistency", {"n": 3, "width": 1}, task=OPEN))
    assert outcome.candidate.text == TEXTS[0]
    assert json.loads(outcome.notes["fields"]) == {"/a": 1.0, "/b": 1.0}
    assert [each.finish_reason for each in outcome.candidates] == ["stop", "length", "stop"]
