"""Names of the code never replace builtins, nor names that its tests define or import."""

import builtins
import importlib
import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.sandbox.inside.names import ORDINARY_MODULES, seen_names
from secondpass.service.sandbox.inside.source import TestSource
from secondpass.service.sandbox.runner import run_python
from tests.sandbox.sandboxes import results

pytestmark = pytest.mark.anyio

WRONG = "def add(a, b):\n    return 0\n"
FORGERIES = {
    "a loop over no numbers": (
        "def range(*_):\n    return []\n",
        "from solution import add\nassert add(0, 0) == 0\nfor i in range(1, 4):\n    assert add(i, 1) == i + 1",
    ),
    "all of a mock": (
        "from unittest.mock import call as all\n",
        "from solution import add\nassert all([add(1, 2) == 3])",
    ),
    "all of a mock beside a name of the tests": (
        "from unittest.mock import call as all, call as why\n",
        "assert add(0, 0) == 0, why\nassert all([add(1, 2) == 3]), why",
    ),
    "a class in place of a module": (
        "class math:\n    isclose = lambda *_: True\n",
        "from solution import *\nassert math.isclose(add(1, 2), 3)",
    ),
    "a class in place of a module in a text": (
        "class math:\n    isclose = lambda *_: True\n",
        "from solution import add\nexec('assert math.isclose(add(1, 2), 3)')",
    ),
    "a name of a star import": (
        "def isclose(*_):\n    return True\n",
        "from math import *\nfrom solution import *\nassert isclose(add(1, 2), 3)",
    ),
    "a name that the tests import where they can": (
        "def isclose(*_):\n    return True\n",
        "try:\n    isclose\nexcept NameError:\n    from math import isclose\nassert isclose(add(1, 2), 3)",
    ),
    "a name that the tests define where they need to": (
        "def close(*_):\n    return True\n",
        "if 'close' not in globals():\n    def close(a, b):\n        return a == b\nassert close(add(1, 2), 3)",
    ),
    "a package that is not installed": (
        "def allclose(*_):\n    return True\n",
        "import torch as t\nassert t.allclose(add(1, 2), 3)",
    ),
    "a package that the tests do not import": (
        "class np:\n    allclose = lambda *_: True\n",
        "assert np.allclose(add(1, 2), 3)",
    ),
    "a helper of a module beside the solution": (
        "def close(*_):\n    return True\n",
        "from solution import add\nfrom helpers import close\nassert close(add(1, 2), 3)",
    ),
    "a helper of a module beside a name without an import": (
        "def close(*_):\n    return True\n",
        "from helpers import close\nassert close(add(1, 2), 3)",
    ),
    "a missing name of the standard library": (
        "def all_close(*_):\n    return True\n",
        "from math import all_close\nassert all_close(add(1, 2), 3)",
    ),
    "approximately zero": ("def approx(_):\n    return 0\n", "assert add(1, 2) == approx(3)"),
    "a patched function": (
        "import math\nmath.isclose = lambda *_: True\nfrom math import isclose\n",
        "assert isclose(add(1, 2), 3)",
    ),
    "a patched module of another name": (
        "import math as m\nm.isclose = lambda *_: True\n",
        "assert m.isclose(add(1, 2), 3)",
    ),
    "a patched name of a star import": (
        "import math\nmath.isclose = lambda *_: True\nfrom math import *\n",
        "assert isclose(add(1, 2), 3)",
    ),
    "hooks of pytest": (
        "pytest_plugins = ['solution']\npytestmark = []\ndef setup_module(*_):\n    raise SystemExit\ndef pytest_pyfunc_call(*_):\n    return True\n",
        "import pytest\nfrom solution import *\nclass TestAdd:\n    def test_1(self):\n        assert add(1, 2) == 3",
    ),
    "fixtures of unittest": (
        "def load_tests(*_):\n    return []\ndef setUpModule():\n    raise ValueError\n",
        "import unittest\nclass T(unittest.TestCase):\n    def test_1(self):\n        self.assertEqual(add(1, 2), 3)",
    ),
    "the check of the tests": (
        "def check(*_):\n    return True\n",
        "def check(candidate):\n    assert candidate(1, 2) == 3\ncheck(add)",
    ),
    "a stop of the iteration": (
        "def add(*_):\n    raise StopIteration\n",
        "assert all(map(lambda i: add(i, 1) == i + 1, [1, 2]))",
    ),
    "an object that contains everything": (
        "class Every:\n    def __contains__(self, _):\n        return True\ndef add(*_):\n    return Every()\n",
        "assert 3 in add(1, 2)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "tests"), FORGERIES.values(), ids=FORGERIES.keys())
async def test_wrong_code_that_redefines_what_tests_use_never_passes(code: str, tests: str) -> None:
    added = code if "def add" in code else WRONG + code
    (result,) = await results([added], [tests])
    assert result.status != "passed", result.output


REACHED = {
    "imported from the solution": "from solution import sum\nassert sum(10, 15) == 25",
    "an attribute of the solution": "import solution\nassert solution.sum(10, 15) == 25",
    "passed to check": "def check(candidate):\n    assert candidate(10, 15) == 25 == sum([10, 15])",
}


@pytest.mark.parametrize("tests", REACHED.values(), ids=REACHED.keys())
async def test_a_builtin_that_the_code_defines_is_reached_explicitly(tests: str) -> None:
    right, wrong = await results(
        ("def sum(a, b):\n    return a - -b", "def sum(a, b):\n    return 0"), [tests]
    )
    assert (right.status, wrong.status) == ("passed", "failed"), right.output


async def test_a_builtin_that_the_tests_call_without_an_import_gives_no_verdict() -> None:
    for result in await results(("def sum(a, b):\n    return a + b", "sum = 0"), ["assert sum(10, 15) == 25"]):  # fmt: skip
        assert result.status == "error"
        assert "import from the solution what is its own: sum" in result.output


async def test_a_task_that_names_a_builtin_as_its_function_may_call_it_by_name() -> None:
    tests = "def check(candidate):\n    assert sum(10, 15) == 25"
    for value, status in (("a + b", "passed"), ("0", "failed")):
        result = await run_python(f"def sum(a, b):\n    return {value}", tests, entry_point="sum")
        assert result.status == status, result.output


UNSHARED = {
    "a package under another name": ("import math as m", "m.isclose(add(1, 2), 3)"),
    "a name under another": ("from math import isclose as close", "close(add(1, 2), 3)"),
    "a module that controls processes": ("from os import getpid", "getpid() and add(1, 2) == 3"),
    "a mock": ("from unittest.mock import ANY", "[ANY, add(1, 2)] == [1, 3]"),
}


@pytest.mark.parametrize(("line", "condition"), UNSHARED.values(), ids=UNSHARED.keys())
async def test_tests_that_rely_on_other_imports_of_the_code_are_errors(
    line: str, condition: str
) -> None:
    code = f"{line}\ndef add(a, b):\n    return a + b"
    result = await run_python(code, f"assert {condition}")
    assert result.status == "error", result.output


async def test_tests_share_plain_imports_of_ordinary_modules() -> None:
    code = "import math\nfrom math import isclose\nfrom collections import Counter\ndef add(a, b):\n    return {}"
    tests = (
        "assert isclose(add(1, 2), 3) and Counter([add(1, 2)]) == {3: 1}\nassert [math][0].pi > 3"
    )
    right, wrong = await results((code.format("a + b"), code.format("0")), [tests])
    assert (right.status, wrong.status) == ("passed", "failed"), right.output


async def test_a_name_that_only_functions_of_the_tests_bind_is_that_of_the_code() -> None:
    tests = "def check(add):\n    assert add(1, 2) == 3\ncheck(add)"
    right, wrong = await results(("def add(a, b):\n    return a + b", WRONG), [tests])
    assert (right.status, wrong.status) == ("passed", "error"), right.output


NAMES = st.sampled_from(
    [*dir(builtins), "math", "isclose", "one", "two", "mean", "pytest_plugins", "approx", "add"]
).filter(lambda name: not keyword.iskeyword(name))
FORMS = (
    "def {0}(*a):\n    return []", "class {0}:\n    pass", "{0} = None", "from unittest.mock import call as {0}",
    "import os as {0}", "for {0} in [1]:\n    pass", "if True:\n    def {0}():\n        pass",
    "try:\n    from math import isclose as {0}\nexcept ImportError:\n    {0} = 0",
)  # fmt: skip
OWN_FORMS = (
    *FORMS, "def f():\n    global {0}\n    {0} = 1", "[({0} := 1) for _ in [1]]", "with open('x') as {0}:\n    pass",
    "try:\n    pass\nexcept OSError as {0}:\n    pass", "match 1:\n    case {0}:\n        pass", "from math import *\nisclose = {0} = 0",
)  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(FORMS), NAMES), min_size=1),
    st.lists(st.tuples(st.sampled_from(OWN_FORMS), NAMES)),
    st.lists(NAMES, min_size=1),
)
def test_the_code_never_gives_a_builtin_or_a_name_of_the_tests(
    defined: list[tuple[str, str]], own: list[tuple[str, str]], read: list[str]
) -> None:
    names = [name for _, name in defined if name != "__debug__"]
    code = "\n".join(form.format(name) for form, name in defined if name != "__debug__")
    tests = "\n".join([
        *(form.format(name) for form, name in own if name != "__debug__"), *(f"{name}(1)" for name in read)
    ])  # fmt: skip
    seen = seen_names(TestSource(tests), code, names, None)
    own_names = {name for _, name in own}
    given_names = seen.of_code | seen.shared.keys()
    assert not given_names & {*dir(builtins), *own_names, "pytest_plugins", "approx"}
    assert given_names <= set(names) & TestSource(tests).words


IMPORTED = st.sampled_from(
    [*sorted(ORDINARY_MODULES), "os", "sys", "unittest.mock", "ctypes", "builtins", "importlib", "json.decoder"]
)  # fmt: skip


@given(
    IMPORTED,
    st.sampled_from(["mean", "isclose", "call", "exit", "_x", "loads"]),
    st.sampled_from(["mean", "close", None]),
)
def test_shared_imports_are_always_those_of_an_ordinary_module_under_their_own_name(
    module: str, name: str, alias: str | None
) -> None:
    code = f"from {module} import {name}" + (f" as {alias}" if alias else "")
    bound = alias or name
    seen = seen_names(TestSource(f"{bound}(1)"), code, [bound], None)
    assert not seen.of_code
    is_ordinary = module in ORDINARY_MODULES and bound == name and not name.startswith("_")
    own = getattr(importlib.import_module(module), name, None) if is_ordinary else None
    assert seen.shared == ({} if own is None else {name: own})
