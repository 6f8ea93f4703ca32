"""No code makes tests pass that it does not satisfy."""

import pytest

from tests.sandbox.sandboxes import results

pytestmark = pytest.mark.anyio


FORGERIES = {
    "imports exit under the name": "from sys import exit as add",
    "imports _exit under the name": "from os import _exit as add",
    "imports a mock under the name": "from unittest.mock import MagicMock as add",
    "exits": "import sys\ndef add(a, b):\n    sys.exit(0)",
    "raises a skip": "import unittest\ndef add(a, b):\n    raise unittest.SkipTest('no')",
    "raises an error named Skipped": "class Skipped(BaseException): pass\ndef add(a, b):\n    raise Skipped",
    "raises an exception named Skipped": "class Skipped(Exception): pass\ndef add(a, b):\n    raise Skipped",
    "raises an error named SkipTest": "class SkipTest(Exception): pass\ndef add(a, b):\n    raise SkipTest",
    "equals everything": "class Any:\n    __eq__ = lambda *_: True\n    __hash__ = None\ndef add(a, b):\n    return Any()",
    "contains everything": "class Any:\n    __contains__ = lambda *_: True\n    __eq__ = lambda *_: True\ndef add(a, b):\n    return Any()",
    "contains everything in a class of another module": "class Any:\n    __module__ = 'other'\n    __contains__ = lambda *_: True\ndef add(a, b):\n    return Any()",
    "is a class that contains everything": "class add:\n    def __init__(self, *_): pass\n    __contains__ = lambda *_: True",
    "has every method": "class Any:\n    def __getattr__(self, name): return lambda *_: True\ndef add(a, b):\n    return Any()",
    "defines names of a package": "DeepDiff = lambda *_: {}\ndef add(a, b):\n    return 0",
    "is named like the expected class": "class int:\n    __eq__ = lambda *_: True\ndef add(a, b):\n    return int()",
    "replaces pytest": "import sys, types\nsys.modules['pytest'] = types.ModuleType('pytest')\ndef add(a, b):\n    return 0",
    "patches unittest": "import unittest\nunittest.TestCase.assertEqual = lambda *_: None\ndef add(a, b):\n    return 0",
    "patches assert": "import builtins\nbuiltins.AssertionError = Exception\ndef add(a, b):\n    return 0",
    "defines names of the tests": "def test_1():\n    pass\nclass T:\n    pass\nclass TestAdd:\n    pass\nmain = pytest = unittest = None\ndef add(a, b):\n    return 0",
    "returns exec": "add = exec",
    "deletes the tests": "import os\nfor name in os.listdir('.'):\n    os.remove(name)\ndef add(a, b):\n    return 0",
    "writes a conftest": "open('/tmp/conftest.py', 'w').write('collect_ignore_glob = [\"*\"]')\ndef add(a, b):\n    return 0",
    "redefines builtins": "all = isinstance = abs = lambda *_: True\ndef add(a, b):\n    return 0",
    "redefines a module": "class math:\n    isclose = lambda *_, **__: True\ndef add(a, b):\n    return 0",
    "is a class that equals everything": "class add:\n    def __init__(self, *_): pass\n    __eq__ = __lt__ = __sub__ = __abs__ = lambda *_: True\n    __hash__ = None",
    "is a class that converts itself": "class add:\n    def __init__(self, *_): pass\n    __float__ = lambda _: 3.0\n    __index__ = __int__ = lambda _: 3\n    __sub__ = lambda *_: 0",
    "is a class of an expected name": "class assertEqual:\n    __eq__ = lambda *_: True\ndef add(a, b):\n    return assertEqual()",
    "sends names of its own": "import json, os\nfor fd in range(3, 10):\n    try:\n        os.write(fd, b'{\"names\": {\"__builtins__\": {\"dict\": []}, \"__file__\": 1, \"__name__\": 2}}\\n')\n    except OSError:\n        pass",
    "prints a summary": "print('1 passed in 0.01s', flush=True)\ndef add(a, b):\n    print('1 passed')\n    return 0",
}  # fmt: skip
TARGETS = {
    "builtins": "assert all([add(1, 2) == 3, isinstance(add(1, 2), int), abs(add(1, 2) - 3) < 1e-9])",
    "a module that is not imported": "assert math.isclose(add(1, 2), 3)",
    "everything imported": "import math\nfrom solution import *\nassert math.isclose(add(1, 2), 3) and all([add(1, 2) == 3])",

    "a container": "assert 3 in add(1, 2)",
    "a predicate": "assert add(1, 2).issuperset([3])",
    "a package that is not installed": "from calculator import add\nfrom deepdiff import DeepDiff\nassert not DeepDiff(add(1, 2), 3)",
    "plain": "assert add(1, 2) == 3",
    "one argument": "add(0)\nassert add(1, 2) == 3",
    "pytest and unittest": "import pytest, unittest\nclass TestAdd:\n    @pytest.mark.parametrize('c', [3])\n    def test_1(self, c):\n        assert add(1, 2) == c and c in [add(1, 2)]\nclass T(unittest.TestCase):\n    def test_1(self):\n        self.assertEqual(add(1, 2), 3)\nunittest.main()",
}  # fmt: skip


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES.keys())
async def test_no_code_forges_a_verdict(code: str) -> None:
    found = await results([code], TARGETS.values())
    assert "passed" not in {each.status for each in found}
