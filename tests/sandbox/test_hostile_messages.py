"""Replies of the code's process raise only errors of the protocol or of the code."""

import json
import socket
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.sandbox.inside.proxy import (
    CandidateBroken,
    CandidateProcess,
    NotSerializable,
)

Json = Any


def asked(line: bytes, given: Any = None) -> Any:
    """Return the value of a call that is answered with a line."""
    own, other = socket.socketpair()
    with own, other:
        other.sendall(line + b"\n")
        other.shutdown(socket.SHUT_WR)
        return CandidateProcess(own).ask("call", 0, "", given)


def nested(kind: str, depth: int) -> bytes:
    return (
        f'{{"value": {{"{kind}": '.encode() + b'[{"list": ' * depth + b"[]" + b"}]" * depth + b"}}"
    )


HOSTILE: dict[str, bytes] = {
    "no object": b"[]",
    "a number": b"3",
    "no value": b"{}",
    "nested too deeply for JSON": b'{"value": ' + b"[" * 100_000,
    "nested too deeply": nested("list", 700),
    "two kinds": b'{"value": {"list": [], "tuple": []}}',
    "an unknown kind": b'{"value": {"code": "exec"}}',
    "a huge fraction": b'{"value": {"fraction": "1e999999999"}}',
    "a function for a type": b'{"value": {"type": "exec"}}',
    "fields that are no names": b'{"value": {"named": ["P", ["x=print()"], [1]]}}',
    "a name that is no name": b'{"value": {"named": ["P):\\n  x = 1 #", ["x"], [1]]}}',
    "an unhashable key": b'{"value": {"dict": [[{"list": []}, 1]]}}',
    "a module that is not listed": b'{"value": {"standard": ["os.system", "true"]}}',
    "a printed number": b'{"value": 1, "printed": 7}',
    "an error without names": b'{"raised": [], "message": "", "given": {"tuple": []}, "own": {}}',
    "an error of numbers": b'{"raised": [1], "message": "", "given": {"tuple": []}, "own": {}}',
    "an error with a skip": b'{"raised": ["unittest.case.SkipTest", "SkipTest"], "message": "", "given": [], "own": {}}',
    "an error that exits": b'{"raised": ["SystemExit", "BaseException"], "message": "", "given": {"tuple": [0]}, "own": {}}',
    "an error without arguments": b'{"raised": ["ValueError"], "message": "", "given": 3, "own": {}}',
    "arguments that do not fit": b'{"raised": ["json.decoder.JSONDecodeError", "ValueError"], "message": "", "given": {"tuple": [1, 2, 3]}, "own": {}}',
    "a stop of an iteration": b'{"raised": ["StopIteration", "Exception"], "message": "", "given": {"tuple": []}, "own": {}}',
    "the end of the stream": b"",
}  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_replies_are_errors_of_the_protocol_at_once(line: bytes) -> None:
    start = time.monotonic()
    with pytest.raises((CandidateBroken, NotSerializable)):
        asked(line)
    assert time.monotonic() - start < 1


def test_notes_and_long_messages_of_errors_are_not_taken() -> None:
    own = {"__notes__": 3, "__cause__": 1, "code": 7}
    document = {"raised": ["MyError", "ValueError", "Exception"], "message": "m" * 10_000, "given": {"tuple": []}, "own": own}  # fmt: skip
    with pytest.raises(ValueError, match="m") as caught:
        asked(json.dumps(document).encode())
    assert len(str(caught.value)) <= 400
    assert vars(caught.value).keys() == {"code", "_message"}


@pytest.mark.parametrize("changed", ['"text"', '{"dict": [[1, 2]]}', '{"ref": [9, "P", true]}'])
def test_an_argument_is_only_replaced_by_one_of_its_kind(changed: str) -> None:
    argument = [1]
    with suppress(NotSerializable, CandidateBroken):
        asked(f'{{"value": 1, "arguments": [{changed}]}}'.encode(), argument)
    assert argument == [1]


KINDS = st.sampled_from([
    "list", "tuple", "set", "dict", "named", "type", "fraction", "decimal", "range", "bytes", "complex", "standard",
    "timedelta", "defaultdict", "error_class", "ref", "x",
])  # fmt: skip
TEXTS = st.sampled_from(["int", "exec", "uuid.UUID", "os.system", "1/2", "1e9", "x"]) | st.text()
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KINDS, inner, max_size=2),
    max_leaves=12,
)
REPLIES = (
    st.fixed_dictionaries({"value": DOCUMENTS}, optional={"printed": DOCUMENTS, "arguments": DOCUMENTS})
    | st.fixed_dictionaries({"raised": st.lists(TEXTS) | DOCUMENTS, "message": DOCUMENTS, "given": DOCUMENTS, "own": DOCUMENTS})
    | DOCUMENTS
)  # fmt: skip


@given(REPLIES)
def test_no_reply_raises_anything_else(reply: Json) -> None:
    is_error = isinstance(reply, dict) and "raised" in reply
    allowed: tuple[type[BaseException], ...] = (CandidateBroken, NotSerializable)
    with suppress(*allowed, *((Exception,) if is_error else ())):
        asked(json.dumps(reply).encode())
