"""`secondpass solve` at a terminal: the live tree, the answer, and Ctrl-C."""

import time

import pytest

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.testing.support import constant_reply
from tests.cli.running import at_terminal
from tests.http.serving import serving
from tests.http.test_disconnect import SOON
from tests.polling import wait_until

VOTE = ["--strategy", "self_consistency", "--n", "4", "--param", "stop=none", "--param", "width=4"]


def test_calls_budget_answer_and_usage_are_drawn() -> None:
    with (
        serving(ScriptedEngine(per_token=0.05)) as served,
        at_terminal(
            "solve", "What is 6 times 7?", "--url", served.url, *VOTE, "--budget-tokens", "500"
        ) as terminal,
    ):
        terminal.read_until("actor solve 1")
        assert "✓" not in terminal.text
        assert "0 of 500" in terminal.text
        assert terminal.end() == 0
    drawn = terminal.text
    assert "✓ actor solve 1" in drawn
    assert "60 of 500" in drawn
    assert "★ 42  vote_share 0.75" in drawn
    end = drawn[drawn.rindex("★") :]
    assert "That makes 42." in end
    assert "finished" in end
    assert "completion" in end


def test_with_trace_the_tree_contains_the_texts() -> None:
    with (
        serving() as served,
        at_terminal("solve", "What is 6 times 7?", "--url", served.url, "--trace") as terminal,
    ):
        assert terminal.end() == 0
    tree = terminal.text[terminal.text.rindex("✓ actor solve 1") :]
    assert tree.count("Let me work it out step by step.") == 2


def test_a_failure_leaves_the_tree_and_prints_one_line() -> None:
    with (
        serving(ScriptedEngine(constant_reply("word " * 200), per_token=0.05)) as served,
        at_terminal("solve", "6?", "--url", served.url, *VOTE, "--deadline", "0.5") as terminal,
    ):
        assert terminal.end() == 3
    assert terminal.text.rstrip().splitlines()[-1].startswith("secondpass solve: ")
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize("output", [[], ["--json"], ["--trace"]])
@pytest.mark.faults
def test_ctrl_c_frees_the_engine_and_prints_that(output: list[str]) -> None:
    with (
        serving(ScriptedEngine(constant_reply("word " * 2000), per_token=0.01)) as served,
        at_terminal("solve", "6 times 7?", "--url", served.url, *VOTE, *output) as terminal,
    ):
        wait_until(lambda: len(served.engine.running) > 0, 30)
        pressed = time.monotonic()
        terminal.type(b"\x03")
        wait_until(lambda: not served.engine.running)
        took = time.monotonic() - pressed
        assert terminal.end() == 130
    assert took < SOON
    assert "frees its engine" in terminal.text
    assert "Traceback" not in terminal.text


@pytest.mark.faults
def test_ctrl_c_while_the_question_is_typed_sends_no_request() -> None:
    with serving() as served, at_terminal("solve", "-", "--url", served.url) as terminal:
        terminal.read_until("Ctrl-D")
        terminal.type(b"What is\n")
        terminal.type(b"\x03")
        assert terminal.end() == 130
    assert not served.engine.calls
    assert "Traceback" not in terminal.text


def test_a_listing_is_a_table() -> None:
    with serving() as served, at_terminal("strategies", "--url", served.url) as terminal:
        assert terminal.end() == 0
    assert "signal" in terminal.text
    assert "agreement" in terminal.text
