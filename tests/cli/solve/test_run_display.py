"""Display of a run, updated event by event."""

import io
from typing import Any

from rich.console import Console

from secondpass.service.cli.common.output import printable
from secondpass.service.cli.solve.live import print_answer
from secondpass.service.cli.solve.run_display import RunDisplay

Json = dict[str, Any]
STARTED: Json = {
    "at": 0.0,
    "strategy": "self_consistency",
    "params": {"n": 8, "width": None},
    "models": {"actor": "small", "judge": "big", "critic": "big"},
}
ANSWER: Json = {
    "text": "So \x1b[31m42[/red].",
    "answer": "42",
    "confidence": 0.75,
    "confidence_kind": "vote_share",
    "stop_reason": "consensus",
    "degraded": {"judge": 2},
    "saved": {"samples": 3, "tokens": 100},
    "usage": {
        "actor": {
            "calls": 5,
            "prompt": 50,
            "cached": 40,
            "completion": 123,
            "wasted": 7,
            "cost": 0.25,
            "estimated": True,
        }
    },
    "budget": {
        "max_tokens": {"limit": 1000, "spent": 123},
        "max_calls": {"limit": 10, "spent": 5},
        "deadline_ms": {"limit": 2000, "spent": 500},
        "max_cost": {"limit": None, "spent": 0.25},
    },
}


def call(number: int, **more: Any) -> Json:
    return {"call": number, "role": "actor", "purpose": "solve", "index": number, "n": 1} | more


def finished(number: int, **more: Any) -> Json:
    result: Json = {
        "end": "finished",
        "usage": {"prompt": 9, "cached": 0, "completion": 15},
        "attempts": 1,
        "wasted": 0,
        "seconds": 0.5,
        "error": None,
    }
    return call(number) | result | more


def candidate(index: int, *, is_best: bool = False, **more: Any) -> Json:
    defaults = {"text": "t", "answer": "42", "score": None, "score_kind": None, "why": None}
    return {"candidate": defaults | {"index": index} | more, "is_best": is_best}


def rendered(display: RunDisplay, height: int = 40) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=100, height=height, force_terminal=False, markup=False, highlight=False
    )
    console.print(display, height=height)
    return out.getvalue()


def display_of(*events: tuple[str, Json], **limits: float) -> RunDisplay:
    display = RunDisplay(limits)
    for event in events:
        display.update(*event)
    return display


def test_before_the_first_event_the_display_waits_for_the_server() -> None:
    assert "waiting for the server" in rendered(RunDisplay({}))


def test_calls_are_drawn_when_they_start_and_finish() -> None:
    display = display_of(
        ("run.started", STARTED), ("call.started", call(0)), ("call.started", call(1))
    )
    drawn = rendered(display)
    assert "self_consistency  n=8  small  big" in drawn
    assert "actor solve 1  0.0 s" in drawn
    assert "✓" not in drawn
    display.update("call.finished", finished(0))
    display.update("call.finished", finished(1, end="failed", error="no GPU", wasted=4))
    drawn = rendered(display)
    assert "✓ actor solve 1  15 tokens  0.50 s" in drawn
    assert "✗ actor solve 2  15 tokens  0.50 s  failed  4 wasted  no GPU" in drawn


def test_a_call_that_was_cancelled_before_it_started_is_drawn_too() -> None:
    cancelled = finished(3, end="cancelled", attempts=0)
    assert "□ actor solve 4" in rendered(display_of(("call.finished", cancelled)))


def test_candidates_and_verdicts_are_drawn_below_their_calls() -> None:
    judge = {"role": "judge", "purpose": "grade"}
    drawn = rendered(
        display_of(
            ("call.started", call(0, n=2)),
            ("call.started", call(1, index=0, **judge)),
            ("candidate", candidate(1, answer="41")),
            ("candidate", candidate(0, is_best=True, score=0.5, score_kind="p_true", why="x")),
            ("verdict", judge | {"labels": {"probabilities": {"yes": 0.9, "no": 0.1}}}),
        )
    ).splitlines()
    assert "actor solve 1 to 2" in drawn[1]
    assert "→ 41" in drawn[2]
    assert "★ 42  p_true 0.50  x" in drawn[3]
    assert "judge grade 1" in drawn[4]
    assert "yes 0.90  no 0.10" in drawn[5]


def test_budget_bars_use_the_requested_limits_until_the_answer_has_all() -> None:
    display = display_of(
        ("call.started", call(0)), ("call.finished", finished(0)), max_tokens=60, deadline_ms=2000
    )
    drawn = rendered(display)
    assert "15 of 60" in drawn
    assert "0.0 of 2 " in drawn
    assert "calls" in drawn
    assert "1 of" not in drawn
    display.update("run.finished", ANSWER)
    drawn = rendered(display)
    assert "123 of 1000" in drawn
    assert "5 of 10" in drawn
    assert "0.5 of 2" in drawn


def test_at_the_end_the_leader_has_its_final_vote_share() -> None:
    first = candidate(0, is_best=True, score=1.0, score_kind="vote_share", why="1 of 1")
    display = display_of(("call.started", call(0)), ("candidate", first), ("run.finished", ANSWER))
    assert rendered(display).splitlines()[2].endswith("★ 42  vote_share 0.75")


def test_a_live_run_with_many_calls_fits_the_terminal() -> None:
    display = RunDisplay({})
    for number in range(500):
        display.update("call.started", call(number))
        display.update("call.finished", finished(number))
        display.update("candidate", candidate(number))
        display.update("answer.delta", {"text": "one\ntwo\n"})
    drawn = rendered(display, height=30)
    assert drawn.rstrip().count("\n") < 30
    assert "earlier calls" in drawn
    assert "actor solve 500" in drawn
    display.finish()
    assert rendered(display).count("actor solve") == 500


def test_partial_texts_are_shown_by_their_tail() -> None:
    display = display_of(
        ("call.started", call(0)),
        ("call.delta", {"call": 0, "text": "long ago " * 50 + "the very end"}),
        ("answer.delta", {"text": "first\nsecond\nthird\nfourth\nfifth"}),
    )
    drawn = rendered(display)
    assert "the very end" in drawn
    assert "fifth" in drawn
    assert "first" not in drawn


def test_model_output_cannot_control_the_terminal() -> None:
    wild = "\x1b]0;title\x07\x9b31m[bold]\u202e"
    display = display_of(
        ("run.started", STARTED | {"strategy": wild}),
        ("call.started", call(0)),
        ("candidate", candidate(0, answer=wild, why=wild)),
        ("call.finished", finished(0, texts=[wild], error=wild, end="failed")),
        ("answer.delta", {"text": wild}),
    )
    live = rendered(display)
    display.finish()
    for drawn in (live, rendered(display)):
        assert not set("\x1b\x07\x9b\u202e") & set(drawn)
        assert "[bold]" in drawn
    assert printable("a\tb\nc") == "a\tb\nc"


def test_the_answer_is_printed_with_stop_reason_and_usage() -> None:
    out = io.StringIO()
    print_answer(Console(file=out, width=100, markup=False, highlight=False), ANSWER)
    drawn = out.getvalue()
    for expected in (
        "So \ufffd[31m42[/red].",
        "0.75 vote_share",
        "consensus",
        "2 calls of the judge",
        "3 samples, about 100 tokens",
        "~123",
        "~0.25",
    ):
        assert expected in drawn
