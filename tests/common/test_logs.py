"""Log lines that clients can cause are limited, and cannot forge or hide other lines."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.logs import (
    LINES_PER_MINUTE,
    MAX_KINDS,
    LogFilter,
    LogFormatter,
    limit_log,
)


def logger_to(stream: io.StringIO, clock: list[float]) -> logging.Logger:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LogFormatter())
    handler.addFilter(LogFilter(lambda: clock[0]))
    logger = logging.Logger("noisy")  # noqa: LOG001 - apart from the loggers of the process
    logger.addHandler(handler)
    return logger


def test_lines_of_one_kind_are_limited_and_the_next_states_the_rest() -> None:
    stream, clock = io.StringIO(), [0.0]
    logger = logger_to(stream, clock)
    for number in range(1000):
        logger.warning("request %d failed", number)
    logger.warning("another kind")
    assert stream.getvalue().count("failed") == LINES_PER_MINUTE
    assert stream.getvalue().endswith("another kind\n")
    clock[0] = 60.0
    logger.warning("request %d failed", 5)
    assert stream.getvalue().endswith("request 5 failed (990 similar lines were suppressed)\n")
    logger.warning("request %d failed", 6)
    assert stream.getvalue().endswith("request 6 failed\n")


def test_templates_that_never_repeat_are_limited_too() -> None:
    stream, clock = io.StringIO(), [0.0]
    logger = logger_to(stream, clock)
    for number in range(5000):
        logger.warning(f"request {number} failed")  # noqa: G004 - as a library may do
    assert stream.getvalue().count("\n") == MAX_KINDS + LINES_PER_MINUTE


def test_exceptions_of_different_types_are_different_kinds() -> None:
    stream = io.StringIO()
    logger = logger_to(stream, [0.0])
    for error in [ValueError("x")] * 50 + [KeyError("y")]:
        try:
            raise error
        except (ValueError, KeyError):
            logger.exception("internal error")
    assert stream.getvalue().count("ValueError: x") == LINES_PER_MINUTE
    assert "KeyError: 'y'" in stream.getvalue()


def test_the_access_log_is_not_limited() -> None:
    filter_ = LogFilter()
    record = logging.makeLogRecord({"name": "uvicorn.access", "msg": "one"})
    assert all(filter_.filter(record) for _ in range(100))


@given(st.text(), st.text())
def test_a_message_is_always_one_printable_line(text: str, cause: str) -> None:
    stream = io.StringIO()
    logger = logger_to(stream, [0.0])
    logger.warning("from %s", text)
    assert stream.getvalue().count("\n") == 1
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()
    try:
        raise ValueError(cause)  # noqa: TRY301 - for its traceback
    except ValueError:
        logger.exception("failed: %s", text)
    _, _, *traceback = stream.getvalue().rstrip("\n").split("\n")
    assert all(line.startswith("    ") and len(line.splitlines()) == 1 for line in traceback)


def test_the_handlers_of_another_program_are_limited(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(stream := io.StringIO())
    parent, child = logging.getLogger("limited"), logging.getLogger("limited.child")
    parent.addHandler(handler)
    parent.propagate = False
    try:
        limit_log("limited.child")
        for _ in range(100):
            child.warning("a\nb")
    finally:
        parent.removeHandler(handler)
    assert stream.getvalue() == "a\\nb\n" * LINES_PER_MINUTE


def test_a_record_that_reaches_several_handlers_is_counted_once() -> None:
    streams = [io.StringIO(), io.StringIO()]
    logger = logger_to(streams[0], clock := [0.0])
    handler = logging.StreamHandler(streams[1])
    handler.addFilter(LogFilter(lambda: clock[0]))
    logger.addHandler(handler)
    for number in range(100):
        logger.warning("request %d failed", number)
    clock[0] = 60.0
    logger.warning("request %d failed", 100)
    for stream in streams:
        *_, last = lines = stream.getvalue().splitlines()
        assert len(lines) == LINES_PER_MINUTE + 1
        assert last.endswith("request 100 failed (90 similar lines were suppressed)")
