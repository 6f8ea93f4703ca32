"""Failures are attributed by what their expressions depend on; null candidates confirm nothing."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.sandbox.inside.dependence import Dependence
from secondpass.service.sandbox.inside.names import SeenNames
from secondpass.service.sandbox.inside.nulls import KINDS, Null, null_names
from secondpass.service.sandbox.inside.source import FILE_NAME, TestSource


def is_own(tests: str, code: dict[str, Any]) -> bool:
    """Run tests in this process with given names and return whether their error is their own."""
    source = TestSource(tests)
    dependence = Dependence(source, set(code), SeenNames(frozenset(code), {}), None)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any error
        exec(compile(source.tree, FILE_NAME, "exec"), dict(code))
    return dependence.is_own_error(caught.value)


CONSTANTS = st.integers(-5, 5) | st.text("ab", max_size=2) | st.booleans() | st.none()
EXPRESSIONS = st.recursive(
    CONSTANTS.map(repr) | st.sampled_from(["one", "two"]),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["==", "and", "or", "+"]), inner)
    | st.builds("[{}, {}]".format, inner, inner),
)  # fmt: skip
PRELUDE = "one = 1\ntwo = [one, 'x']\nadd(1, 2)\n"


def add(*_: Any) -> int:
    return 3


@given(EXPRESSIONS, st.sampled_from(["{}[7]", "{} / 0", "missing_module.x + {}", "(1).x({})"]))
def test_an_error_without_the_code_is_never_of_the_code(expression: str, form: str) -> None:
    tests = f"import math as missing_module\n{PRELUDE}x = add(1, 2) == {form.format(expression)}\n"
    assert is_own(tests, {"add": add})


@given(EXPRESSIONS)
def test_an_assertion_without_the_code_is_never_of_the_code(expression: str) -> None:
    tests = f"{PRELUDE}assert not [{expression}], 'message'\n"
    assert is_own(tests, {"add": add})


@given(
    st.sampled_from(["add(1, 2) == 4", "x == 4", "y[0] == 4", "z == 4", "len(w) == 4", "v() == 4"])
)
def test_an_assertion_on_the_code_is_always_of_the_code(condition: str) -> None:
    assigned = "x = add(1, 2)\ny = [x]\nfor z in y:\n    pass\nw = []\nw.append(x)\ndef v():\n    return x\n"
    assert not is_own(f"{PRELUDE}{assigned}assert {condition}\n", {"add": add})


OPERATORS = st.sampled_from(
    [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
)


@given(OPERATORS, CONSTANTS | st.lists(CONSTANTS), st.booleans())
def test_a_comparison_with_a_null_candidate_never_confirms_both_ways(
    compare: Callable[[Any, Any], Any], value: object, is_left: bool
) -> None:
    results = {
        bool(compare(null, value) if is_left else compare(value, null))
        for null in (Null(False)(1), Null(True)(1))
    }
    assert results == {False, True}


@given(st.dictionaries(st.text("abc", min_size=1), CONSTANTS))
def test_null_candidates_define_the_names_of_the_code(names: dict[str, Any]) -> None:
    for kind in KINDS:
        nulls = null_names({**names, "Error": KeyError}, kind)
        assert nulls.keys() == {*names, "Error"}
        assert nulls["Error"] is KeyError
        assert all(callable(each) for each in nulls.values())
