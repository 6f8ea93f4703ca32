"""Votes over answers recorded by others, independent of the sample texts."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.lab.pools.clock import run_virtually
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.recorded_answers import RecordedAnswers, read_recorded_answers
from secondpass.service.lab.pools.replay_run import Replayed, VirtualTimeEquivalence, replay_run
from tests.lab.pools.support import write_rows

Row = dict[str, Any]


def row(name: str, *preds: object, right: object) -> Row:
    samples = [{"pred": pred, "correct": pred is not None and pred == right} for pred in preds]
    return {"id": name, "question": "Which one?", "answer": right, "samples": samples}


def voted(recorded: RecordedAnswers, name: str, n: int, shuffle: int | None = None) -> Replayed:
    async def run() -> Replayed:
        async with VirtualTimeEquivalence() as equivalence:
            return await replay_run(
                recorded.pool,
                recorded.pool.questions[name],
                "self_consistency",
                {"n": n, "stop": "none"},
                equivalence,
                shuffle=shuffle,
            )

    return run_virtually(run)


def majority(recorded: RecordedAnswers, name: str, n: int) -> float:
    """Return the probability that the vote is correct if ties are broken at random."""
    outcome = voted(recorded, name, n).outcome
    assert outcome is not None
    votes = Counter(each.answer for each in outcome.candidates if each.answer is not None)
    leaders = [answer for answer in votes if votes[answer] == max(votes.values())]
    right = sum(recorded.is_correct(name, answer) for answer in leaders)
    return right / len(leaders) if leaders else 0.0


def test_a_vote_elects_a_recorded_answer(tmp_path: Path) -> None:
    rows = [
        row("numbers", 1.0, 1.0, 2.0, right=1.0),
        row("texts", "f(1)", "f([1])", "f([1])", None, right="f([1])"),
        row("alike", "0.5", "1/2", "1/2", right="0.5"),
        row("tied", "a", "b", right="a"),
        row("nothing", None, None, right="a"),
    ]
    recorded = read_recorded_answers(write_rows(tmp_path / "rec.jsonl", rows))
    sizes = {name: len(each["samples"]) for name, each in zip(recorded.preds, rows, strict=True)}
    shares = {name: majority(recorded, name, n) for name, n in sizes.items()}
    assert shares == {"numbers": 1, "texts": 1, "alike": 0, "tied": 0.5, "nothing": 0}
    assert recorded.preds["texts"] == ("f(1)", "f([1])")


def test_an_answer_in_a_text_without_a_pred_is_ignored(tmp_path: Path) -> None:
    rows = [row("x", None, None, right="7")]
    for sample in rows[0]["samples"]:
        sample["text"] = r"The answer is \boxed{7}."
    recorded = read_recorded_answers(write_rows(tmp_path / "rec.jsonl", rows))
    outcome = voted(recorded, "x", 2).outcome
    assert outcome is None or outcome.candidate.answer is None


def test_text_and_token_count_are_kept(tmp_path: Path) -> None:
    rows = [row("x", "7", right="7")]
    rows[0]["samples"][0] |= {"text": "So \\boxed{9}?", "tokens": 12, "finish": "stop"}
    recorded = read_recorded_answers(write_rows(tmp_path / "rec.jsonl", rows))
    outcome = voted(recorded, "x", 1).outcome
    assert outcome is not None
    assert outcome.candidate.text.startswith("So \\boxed{9}?")
    assert recorded.is_correct("x", outcome.candidate.answer)
    assert outcome.usage["actor"].completion == 12


@settings(deadline=None, max_examples=30)
@given(
    preds=st.lists(st.none() | st.sampled_from("abc"), min_size=1, max_size=8),
    shuffle=st.integers(0, 99),
)
def test_a_shuffled_vote_elects_a_leader(
    tmp_path_factory: pytest.TempPathFactory, preds: list[str | None], shuffle: int
) -> None:
    path = tmp_path_factory.mktemp("rec") / "rec.jsonl"
    recorded = read_recorded_answers(write_rows(path, [row("x", *preds, right="a")]))
    outcome = voted(recorded, "x", len(preds), shuffle).outcome
    votes = Counter(pred for pred in preds if pred is not None)
    if not votes:
        assert outcome is None or outcome.candidate.answer is None
        return
    assert outcome is not None
    assert outcome.candidate.answer is not None
    winner = recorded.preds["x"][int(outcome.candidate.answer)]
    assert votes[winner] == max(votes.values())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"samples": []}, "samples: must be a non-empty list"),
        ({"samples": [{"correct": True}]}, r"samples\[0\].pred: missing"),
        ({"samples": [{"pred": "1"}]}, r"samples\[0\].correct: must be true or false"),
        ({"samples": [{"pred": None, "correct": True}]}, r"samples\[0\].correct: must be false"),
        (
            {"samples": [{"pred": 1, "correct": True}, {"pred": 1, "correct": False}]},
            r"samples\[1\].correct: must be equal",
        ),
        ({"id": "fine"}, "duplicate question 'fine'"),
        ({"question": None}, "question: must be a string"),
    ],
)
def test_an_invalid_row_is_reported_with_file_and_line(
    tmp_path: Path, bad: Row, message: str
) -> None:
    rows = [row("fine", "1", right="1"), row("x", "1", right="1") | bad]
    path = write_rows(tmp_path / "rec.jsonl", rows)
    with pytest.raises(BadLine, match=f"^{path}:2: {message}"):
        read_recorded_answers(path)
