"""Only a valid W3C trace context is passed on."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.trace_context import valid_context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "parent",
    [
        "",
        PARENT.upper(),
        f"{PARENT}-more",
        f"{PARENT} ",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"01-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE}-{SPAN}-0g",
    ],
)
def test_an_invalid_parent_is_dropped_with_its_state(parent: str) -> None:
    assert valid_context([parent], ["a=b"]) == ()


def test_two_parents_are_invalid() -> None:
    assert valid_context([PARENT, PARENT], []) == ()
    assert valid_context([], ["a=b"]) == ()


def test_a_parent_of_a_later_version_becomes_version_00() -> None:
    for parent in (f"01-{TRACE}-{SPAN}-03", f"cc-{TRACE}-{SPAN}-ff-new-fields"):
        assert valid_context([parent], []) == (("traceparent", PARENT),)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["a=b"], "a=b"),
        (["a=b, c@d=e f", "x=1"], "a=b,c@d=e f,x=1"),
        (["a=b,,"], "a=b"),
        (["a=b,a=c"], None),
        (["A=b"], None),
        (["a"], None),
        (["a=\x1b"], None),
        (["a=b=c"], None),
        (["a=" + "b" * 256], "a=" + "b" * 256),
        (["a=" + "b" * 257], None),
        ([",".join(f"k{i}=v" for i in range(32))], ",".join(f"k{i}=v" for i in range(32))),
        ([",".join(f"k{i}=v" for i in range(33))], None),
        (["a=" + "b" * 200, "c=" + "d" * 200, "e=" + "f" * 200], None),
        ([""], None),
    ],
)
def test_an_invalid_state_is_dropped_and_the_parent_kept(
    states: list[str], expected: str | None
) -> None:
    kept = (("traceparent", PARENT),)
    assert valid_context([PARENT], states) == (
        kept if expected is None else (*kept, ("tracestate", expected))
    )


@given(
    st.lists(st.text(max_size=70) | st.just(PARENT), max_size=3), st.lists(st.text(), max_size=3)
)
def test_what_is_passed_on_is_always_valid(parents: list[str], states: list[str]) -> None:
    found = dict(valid_context(parents, states))
    if found:
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", found["traceparent"])
        state = found.get("tracestate", "a=b")
        assert len(state) <= 512
        assert state.isascii()
        assert state.isprintable()
