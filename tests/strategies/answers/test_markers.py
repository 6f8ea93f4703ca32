"""Reasoning, end tokens and boxes, with the delimiters of every profile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.answers.markers import DELIMITERS, conclusion, last_box
from secondpass.strategies.answers.task import Task, extract
from secondpass.strategies.api.model_profiles import _FAMILIES, Profile

TASKS = (
    (Task(kind="math"), "The answer is 42.", "42"),
    (Task(kind="choice", options=("one", "two", "three")), "The answer is B.", "B"),
    (Task(kind="open"), "It is late.", "It is late."),
    (Task(kind="code"), "```python\nx = 1\n```", "x = 1"),
)
EACH_PAIR = pytest.mark.parametrize("pair", DELIMITERS, ids=lambda pair: pair[0])
END_TOKENS = (
    "<|eot_id|>", "</s>", "<|im_end|>", "<|end|>", "<eos>", "<|endoftext|>", "<end_of_turn>", "<|return|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)  # fmt: skip
REASONING = st.text(st.characters(exclude_characters="<>[]|{}")) | st.sampled_from(
    ["The answer is 7.", "\\boxed 7", "#### 7\n", "The answer is C.", "```python\ny = 2\n```"]
)


@pytest.mark.parametrize("profile", [profile for _, profile in _FAMILIES], ids=lambda p: p.name)
def test_the_delimiters_of_every_profile_are_known(profile: Profile) -> None:
    assert profile.thinking in DELIMITERS


@EACH_PAIR
@given(reasoning=REASONING, task=st.sampled_from(TASKS))
def test_an_answer_is_read_after_the_reasoning(
    pair: tuple[str, str], reasoning: str, task: tuple[Task, str, str]
) -> None:
    opening, closing = pair
    kind, text, answer = task
    for opened in (opening, opening.upper() if opening[0] == "<" else opening, ""):
        assert extract(kind, f"{opened}{reasoning}{closing}\n{text}") == answer


@EACH_PAIR
@given(reasoning=REASONING, task=st.sampled_from(TASKS))
def test_reasoning_without_an_end_has_no_answer(
    pair: tuple[str, str], reasoning: str, task: tuple[Task, str, str]
) -> None:
    kind, text, _ = task
    for finished in (True, False):
        assert extract(kind, f"{pair[0]}{reasoning}\n{text}", finished=finished) is None
        assert extract(kind, f"{text}\n{pair[0]}{reasoning}", finished=finished) is None


def test_only_its_own_delimiter_closes_reasoning() -> None:
    assert conclusion("<think>a</reasoning>b") is None
    assert conclusion("<think>a[/THINK]b</think>c") == "c"
    assert conclusion("<think>a</think>b<reasoning>c</reasoning>d") == "d"


def test_the_delimiters_of_a_configured_profile_extend_the_known_ones() -> None:
    own = ("<musing>", "</musing>")
    math = Task(kind="math")
    assert extract(math, "<musing>41</musing>42", delimiters=own) == "42"
    assert extract(math, "<musing>41", delimiters=own) is None
    assert extract(math, "<think>41</think>42", delimiters=own) == "42"
    assert Profile(name="own", thinking=own).conclusion("<musing>41</musing> 42") == "42"


@pytest.mark.parametrize("token", END_TOKENS)
@pytest.mark.parametrize(("task", "text", "answer"), TASKS, ids=lambda each: str(each)[:12])
def test_text_from_an_end_token_is_removed(token: str, task: Task, text: str, answer: str) -> None:
    assert extract(task, text + token) == answer
    if task.kind in ("math", "choice"):
        assert extract(task, f"{text}\n{token}\n<|im_start|>user\nThe answer is 1. C.") == answer


def test_a_judge_sees_only_the_conclusion() -> None:
    for opening, closing in DELIMITERS:
        profile = Profile(name="any", thinking=(opening, closing))
        assert profile.conclusion(f"{opening}41? no.{closing}\n\nIt is 42.") == "It is 42."
    assert Profile(name="any").conclusion("It is 42.<|im_end|>") == "It is 42."


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{2} and \boxed{3}", "2, 3"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"$x=\boxed{2}$ or $x=\boxed{3}$", "2, 3"),
        (r"\boxed{5} so \boxed{5}", "5"),
        (r"\boxed{2}-\boxed{3}", None),
        (r"\boxed{\boxed{7}}", "7"),
    ],
)
def test_boxes_in_a_list_are_one_answer(text: str, content: str | None) -> None:
    box = last_box(text)
    assert box is not None
    assert box.content == content
