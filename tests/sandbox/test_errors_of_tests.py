"""Errors of the tests themselves, and tests that assert nothing, give no verdict on the code."""

import pytest

from secondpass.service.sandbox.runner import run_python
from tests.sandbox.sandboxes import results

pytestmark = pytest.mark.anyio

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 0\n"


NOTHING = {
    "assert True": "def test_1():\n    assert True",
    "constants": "assert 1 + 1 == 2",
    "a call without an assertion": "def test_1():\n    add(1, 2)",
    "a printed result": "print('PASS' if add(1, 2) == 3 else 'FAIL')",
    "a used result": "x = add(1, 2) + 1\nfor y in range(2):\n    x = x * y",
    "existence": "assert callable(add)",
    "a swallowed failure": "try:\n    assert add(1, 2) == 3\nexcept Exception:\n    pass",
    "a failure swallowed by a bare except": "try:\n    assert add(1, 2) == 3\nexcept:\n    pass",
    "skipped tests": "import pytest\n@pytest.mark.skip\ndef test_1():\n    assert add(1, 2) == 3",
    "a skipped module": "import pytest\npytest.skip('no', allow_module_level=True)\nassert add(1, 2) == 3",
    "a skipped case": "import unittest\n@unittest.skip('no')\nclass T(unittest.TestCase):\n    def test_1(self):\n        self.assertEqual(add(1, 2), 3)",
    "expected failures": "import pytest\n@pytest.mark.xfail\ndef test_1():\n    assert add(1, 2) == 3",
    "an exit before the assertion": "import sys\nsys.exit(0)\nassert add(1, 2) == 3",
    "a comment": "# assert add(1, 2) == 3",
    "a false condition": "if False:\n    assert add(1, 2) == 3",
    "its own function": "def plus(a, b):\n    return a + b\nassert plus(1, 2) == 3",
    "a function with parameters": "def verify(f):\n    assert f(1, 2) == 3",
    "an empty class": "class TestAdd:\n    pass",
    "an import": "import pytest\nfrom solution import add",
    "the type of its own value": "assert isinstance(3, int)",
    "a tuple": "assert (add(1, 2) == 3, 'message')",
}


@pytest.mark.parametrize("tests", NOTHING.values(), ids=NOTHING.keys())
async def test_tests_that_assert_nothing_about_the_code_accept_nothing(tests: str) -> None:
    for result in await results((ADD, WRONG), [tests]):
        assert (result.status, "assert nothing" in result.output) == ("error", True), result.output


OWN_ERRORS = {
    "no Python": "def test_1(:",
    "a missing package": "import numpy_is_missing as np\nassert add(1, 2) == np.int64(3)",
    "a missing name of a package": "from math import add_up\nassert add(1, 2) == 3",
    "an error before the first call": "x = 1 / 0\nassert add(1, 2) == 3",
    "an error after a call": "assert add(1, 2) is not None\nexpected = {}\nassert add(1, 2) == expected['a']",
    "an error beside a call": "expected = []\ndef test_1():\n    assert add(1, 2) == expected[0]",
    "an error in a helper": "def three():\n    return int('three')\ndef test_1():\n    assert add(1, 2) == three()",
    "pytest that is not imported": "def test_1():\n    with pytest.raises(ValueError):\n        add(1, 2)",
    "an unknown assertion": "def test_1():\n    assert_equal(add(1, 2), 3)",
    "a wrong constant": "def test_1():\n    assert 1 + 1 == 3",
    "a wrong constant after a call": "def test_1():\n    add(1, 2)\n    assert 1 + 1 == 3",
    "a wrong constant of a case": "import unittest\nclass T(unittest.TestCase):\n    def test_1(self):\n        add(1, 2)\n        self.assertEqual(2, 3)",
    "a missing fixture": "def test_1(three):\n    assert add(1, 2) == three",
    "a failing fixture": "import pytest\n@pytest.fixture\ndef three():\n    return int('three')\ndef test_1(three):\n    assert add(1, 2) == three",
    "a failing setUp": "import unittest\nclass T(unittest.TestCase):\n    def setUp(self):\n        self.x = open('missing')\n    def test_1(self):\n        self.assertEqual(add(1, 2), 3)",
    "a failing setUpModule": "import unittest\ndef setUpModule():\n    raise OSError('no server')\nclass T(unittest.TestCase):\n    def test_1(self):\n        self.assertEqual(add(1, 2), 3)",
    "a wrong parametrize": "import pytest\n@pytest.mark.parametrize('a, b', [(1, 2, 3)])\ndef test_1(a, b):\n    assert add(a, b) == 3",
    "a missing file": "import json\ncases = json.load(open('cases.json'))\nassert add(*cases[0]) == 3",
    "a function as an argument": "assert add(lambda: 1, 2) == 3",
    "an ended process": "import os\nassert add(1, 2) == add(1, 2)\nos._exit(0)",
    "a patch": "from unittest.mock import patch\nwith patch('builtins.input', return_value='3'):\n    assert add(1, 2) == 4",
    "an unknown attribute of a standard module": "import math\nassert math.ad(1, 2) == add(1, 2)",
}  # fmt: skip


@pytest.mark.parametrize("tests", OWN_ERRORS.values(), ids=OWN_ERRORS.keys())
async def test_errors_of_the_tests_never_count_against_the_code(tests: str) -> None:
    for result in await results((ADD, WRONG), [tests]):
        assert result.status == "error", result.output


OF_CODE = {
    "a missing function": ("def plus(a, b):\n    return a + b", "assert add(1, 2) == 3", "does not define add"),
    "a missing function in a test": ("x = 1", "def test_1():\n    assert add(1, 2) == 3", "does not define add"),
    "a missing import": ("x = 1", "from solution import add\nassert add(1, 2) == 3", "cannot import name 'add'"),
    "a missing attribute": ("x = 1", "import solution\nassert solution.add(1, 2) == 3", "no attribute 'add'"),
    "a wrong number of parameters": ("def add(a):\n    return a", "assert add(1, 2) == 3", "TypeError"),
    "a wrong type": ("def add(a, b):\n    return None", "assert add(1, 2) + 1 == 4", "TypeError"),
    "an unexpected key": (WRONG, "names = {3: 'three'}\nassert names[add(1, 2)] == 'three'", "KeyError"),
    "an error that is not raised": (ADD, "import pytest\ndef test_1():\n    with pytest.raises(ValueError):\n        add(1, 2)", "DID NOT RAISE"),
    "an error that unittest expects": (ADD, "import unittest\nclass T(unittest.TestCase):\n    def test_1(self):\n        with self.assertRaises(ValueError):\n            add(1, 2)", "ValueError not raised"),
    "an error that try expects": (ADD, "try:\n    add(1, 2)\n    assert False\nexcept ValueError:\n    pass", "AssertionError"),
    "an unchanged argument": ("def add(xs, x):\n    pass", "xs = [[0]]\nadd(xs, 1)\nassert xs[0][0] == 1", "AssertionError"),
    "its own NameError": ("def add(a, b):\n    return a + c", "assert add(1, 2) == 3", "name 'c' is not defined"),
    "a failing fixture that calls it": (WRONG, "import pytest\n@pytest.fixture\ndef three():\n    return 6 / add(1, 1)\ndef test_1(three):\n    assert three == 3", "ZeroDivisionError"),
    "a failing setUp that calls it": (WRONG, "import unittest\nclass T(unittest.TestCase):\n    def setUp(self):\n        self.x = 1 / add(1, 0)\n    def test_1(self):\n        self.assertEqual(self.x, 1)", "ZeroDivisionError"),
    "a missing package": ("import numpy_is_missing\n" + ADD, "assert add(1, 2) == 3", "ModuleNotFoundError"),
    "a caught exit": ("import os\ndef add(a, b):\n    os._exit(0)", "try:\n    assert add(1, 2) == 3\nexcept BaseException:\n    pass", "ended its process"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "tests", "why"), OF_CODE.values(), ids=OF_CODE.keys())
async def test_errors_of_the_code_fail_it(code: str, tests: str, why: str) -> None:
    result = await run_python(code, tests)
    assert (result.status, why in result.output) == ("failed", True), result.output
