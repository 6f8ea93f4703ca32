"""Answer log: lookup by question and setting, and recovery from partial writes."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.lab.evaluation.answer_log import (
    FILE_NAME,
    AnswerLogInUse,
    LoggedAnswer,
    Setting,
    open_answer_log,
)
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.questions import Question
from secondpass.strategies.answers.task import TaskRequest

SINGLE = Setting(strategy="single", model="m", sampling={"seed": 0})


def question(name: str, text: str = "Why?", answer: str = "42") -> Question:
    return Question(name, text, answer, TaskRequest(kind="math"), {}, Path("q.jsonl"), 1)


def logged(text: str) -> LoggedAnswer:
    return LoggedAnswer({"text": text}, 0.5)


def test_lookup_requires_the_same_question_and_setting(tmp_path: Path) -> None:
    first = question("a")
    with open_answer_log(tmp_path) as log:
        log.add(SINGLE, first, 1, logged("x"))
    with open_answer_log(tmp_path) as log:
        assert log.find(SINGLE, first, 1) == logged("x")
        assert log.find(SINGLE, question("a", answer="43"), 1) == logged("x")
        assert log.find(SINGLE, first, 2) is None
        assert log.find(SINGLE, question("b"), 1) is None
        assert log.find(SINGLE, question("a", "How?"), 1) is None
        for change in (
            {"strategy": "other"}, {"model": "n"}, {"params": {"n": 1}}, {"sampling": {"seed": 1}},
            {"budget": {"max_calls": 1}}, {"route": "chat"},
        ):  # fmt: skip
            values = {"strategy": "single", "model": "m", "sampling": {"seed": 0}} | change
            assert log.find(Setting(**values), first, 1) is None  # type: ignore[arg-type]


def test_a_run_without_an_answer_is_logged_with_its_usage(tmp_path: Path) -> None:
    ended = LoggedAnswer(
        None, 1.0, "no answer within budget.max_tokens", {"actor": {"completion": 3}}
    )
    with open_answer_log(tmp_path) as log:
        log.add(SINGLE, question("a"), 1, ended)
    with open_answer_log(tmp_path) as log:
        assert log.find(SINGLE, question("a"), 1) == ended


@settings(max_examples=60)
@given(texts=st.lists(st.text(max_size=9), min_size=1, max_size=4), data=st.data())
def test_truncation_loses_only_the_partial_line(texts: list[str], data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        with open_answer_log(folder) as log:
            for at, text in enumerate(texts):
                log.add(SINGLE, question(str(at)), 1, logged(text))
        content = (folder / FILE_NAME).read_bytes()
        kept = content[: data.draw(st.integers(0, len(content)))]
        (folder / FILE_NAME).write_bytes(kept)
        whole = kept.count(b"\n")
        with open_answer_log(folder) as log:
            for at, text in enumerate(texts):
                found = log.find(SINGLE, question(str(at)), 1)
                assert found == (logged(text) if at < whole else None)
                if found is None:
                    log.add(SINGLE, question(str(at)), 1, logged(text))
        assert (folder / FILE_NAME).read_bytes() == content


def test_an_invalid_line_is_reported(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"setting": "x"}\n')
    with (
        pytest.raises(BadLine, match=rf"{FILE_NAME}:1: question is missing"),
        open_answer_log(tmp_path),
    ):
        pass


def test_one_process_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    with (
        open_answer_log(tmp_path),
        pytest.raises(AnswerLogInUse, match=str(tmp_path)),
        open_answer_log(tmp_path),
    ):
        pass
    with open_answer_log(tmp_path):
        pass
