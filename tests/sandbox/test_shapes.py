"""Tests of every shape are run against right and wrong code, or reported as not runnable."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from secondpass.service.sandbox import mounts, runner
from secondpass.service.sandbox.runner import run_python
from tests.sandbox.sandboxes import results

pytestmark = pytest.mark.anyio

CASES = Path(__file__).parents[1] / "cases/code_tests.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text().splitlines()]
ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 0\n"
NO_PYTEST = "pytest is not installed; install secondpass[sandbox]"


@pytest.mark.parametrize("row", ROWS, ids=[row["shape"] for row in ROWS])
async def test_recorded_tests_accept_right_code_only(row: dict[str, str]) -> None:
    right, wrong = await results((row["right"], row["wrong"]), [row["tests"]])
    assert right.status in ("passed", "error")
    assert wrong.status != "passed"
    assert (right.status == "error") == (row["shape"] in ("comment only", "pass"))


SHAPES = {
    "parametrize": """
        import pytest
        @pytest.mark.parametrize("a, b, total", [(1, 2, 3), (0, 0, 0)])
        def test_1(a, b, total):
            assert add(a, b) == total
    """,
    "fixtures of all scopes": """
        import pytest
        @pytest.fixture(scope="module")
        def one():
            yield 1
        @pytest.fixture(scope="session", autouse=True)
        def two():
            return 2
        class TestAdd:
            @pytest.fixture(scope="class")
            def three(self):
                return 3
            def test_1(self, one, two, three):
                assert add(one, two) == three
    """,
    "builtin fixtures": """
        def test_1(tmp_path, capsys):
            (tmp_path / "a").write_text("3")
            assert str(add(1, 2)) == (tmp_path / "a").read_text()
    """,
    "setup_method": """
        class TestAdd:
            def setup_method(self):
                self.total = 3
            def test_1(self):
                assert add(1, 2) == self.total
    """,
    "setup_class": """
        class TestAdd:
            @classmethod
            def setup_class(cls):
                cls.total = 3
            def test_1(self):
                assert add(1, 2) == self.total
    """,
    "setup_function": """
        total = 0
        def setup_function(function):
            global total
            total = 3
        def test_1():
            assert add(1, 2) == total
    """,
    "setUpModule": """
        import unittest
        def setUpModule():
            global total
            total = 3
        class T(unittest.TestCase):
            def setUp(self):
                self.one = 1
            def test_1(self):
                self.assertEqual(add(self.one, 2), total)
    """,
    "subTest": """
        from unittest import TestCase
        class T(TestCase):
            def test_1(self):
                for a in range(3):
                    with self.subTest(a=a):
                        self.assertEqual(add(a, 2), a + 2)
    """,
    "subtests": """
        def test_1(subtests):
            for a in range(3):
                with subtests.test(a=a):
                    assert add(a, 2) == a + 2
    """,
    "an asynchronous case": """
        import unittest
        class T(unittest.IsolatedAsyncioTestCase):
            async def test_1(self):
                self.assertEqual(add(1, 2), 3)
    """,
    "an asynchronous test with a marker": """
        import pytest
        @pytest.mark.asyncio
        async def test_1():
            assert add(1, 2) == 3
    """,
    "unittest.main under a guard": """
        import unittest
        class T(unittest.TestCase):
            def test_1(self):
                self.assertEqual(add(1, 2), 3)
        if __name__ == "__main__":
            unittest.main()
    """,
    "main of unittest": """
        from unittest import TestCase, main
        class T(TestCase):
            def test_1(self):
                self.assertEqual(add(1, 2), 3)
        main(verbosity=2)
    """,
    "a runner of suites": """
        import sys, unittest
        class T(unittest.TestCase):
            def test_1(self):
                self.assertEqual(add(1, 2), 3)
        suite = unittest.TestLoader().loadTestsFromTestCase(T)
        result = unittest.TextTestRunner(verbosity=2).run(suite)
        sys.exit(not result.wasSuccessful())
    """,
    "pytest.main": """
        import pytest, sys
        def test_1():
            assert add(1, 2) == 3
        if __name__ == "__main__":
            sys.exit(pytest.main([__file__]))
    """,
    "a function that is never called": """
        def run_checks():
            assert add(1, 2) == 3
            print("ok")
    """,
    "a function called under a guard": """
        def run_checks():
            assert add(1, 2) == 3
        if __name__ == "__main__":
            run_checks()
    """,
    "a helper named test": """
        def test(got, expected):
            assert got == expected
        test(add(1, 2), 3)
    """,
    "test functions that call each other": """
        def test_1():
            assert add(1, 2) == 3
        def test_all():
            test_1()
        test_all()
    """,
    "an exit status": """
        import sys
        failed = []
        if add(1, 2) != 3:
            failed.append("1 + 2")
        sys.exit(1 if failed else 0)
    """,
    "an exit after the assertions": """
        import sys
        assert add(1, 2) == 3
        sys.exit(0)
    """,
    "a raised error": """
        if add(1, 2) != 3:
            raise ValueError("mismatch")
    """,
    "a failure in a function": """
        def fail(message):
            raise AssertionError(message)
        if add(1, 2) != 3:
            fail("mismatch")
    """,
    "a flag": """
        is_right = True
        for a, b, total in [(1, 2, 3)]:
            if add(a, b) != total:
                is_right = False
        assert is_right
    """,
    "import of the module": """
        import solution
        def test_1():
            assert solution.add(1, 2) == 3
    """,
    "import under a name": """
        import your_module as m
        assert m.add(1, 2) == 3
    """,
    "import of everything": """
        from main import *
        assert add(1, 2) == 3
    """,
    "import from an unknown module": """
        from calculator.core import add as plus
        assert plus(1, 2) == 3
    """,
    "import from a module named like a standard one": """
        from code import add
        assert add(1, 2) == 3
    """,
    "relative import": """
        from .solution import add
        assert add(1, 2) == 3
    """,
    "import behind try": """
        try:
            from solution import add
        except ImportError:
            from src.solution import add
        assert add(1, 2) == 3
    """,
    "import by importlib": """
        import importlib
        import solution
        assert importlib.import_module("solution").add(1, 2) == 3
    """,
    "a docstring of examples": '''
        """
        >>> add(1, 2)
        3
        """
    ''',
    "a session": """
        >>> add(1, 2)
        3
    """,
    "doctest.testmod": '''
        import doctest
        def check_add():
            """
            >>> add(1, 2)
            3
            """
        doctest.testmod()
    ''',
    "a mock of the tests' own": """
        from functools import partial
        cases = [partial(add, 1, 2)]
        def test_1():
            for case in cases:
                assert case() == 3
    """,
    "a loop over cases": """
        CASES = [((1, 2), 3), ((0, 0), 0)]
        def test_1():
            for given, total in CASES:
                got = add(*given)
                assert got == total, f"{given}: {got}"
    """,
    "a skipped test and another": """
        import pytest
        @pytest.mark.skip
        def test_1():
            assert False
        def test_2():
            assert add(1, 2) == 3
    """,
    "an expected failure and another": """
        import unittest
        class T(unittest.TestCase):
            @unittest.expectedFailure
            def test_1(self):
                self.assertEqual(add(1, 2), 4)
            def test_2(self):
                self.assertEqual(add(1, 2), 3)
    """,
    "a strict expected failure": """
        import pytest
        @pytest.mark.xfail(strict=True)
        def test_1():
            assert add(1, 2) == 0
        def test_2():
            assert add(3, 0) in (0, 3)
    """,
    "a name in a text": """
        assert globals()["add"](1, 2) == 3
    """,
    "threads": """
        from concurrent.futures import ThreadPoolExecutor
        def test_1():
            with ThreadPoolExecutor(4) as pool:
                totals = list(pool.map(lambda n: add(n, 1), range(50)))
            assert totals == list(range(1, 51))
    """,
    "a mixin": """
        import unittest
        class Checks:
            def check(self, a, b, total):
                self.assertEqual(add(a, b), total)
        class T(Checks, unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.one = add(1, 0)
            def test_1(self):
                self.check(self.one, 2, 3)
    """,
    "approximate values": """
        from pytest import approx, mark
        @mark.parametrize("x", [1, 2])
        def test_1(x):
            assert add(x, 0.2) == approx(x + 0.2)
    """,
    "an asynchronous main": """
        import asyncio
        async def main():
            assert add(1, 2) == 3
        asyncio.run(main())
    """,
    "hypothesis": """
        from hypothesis import given, strategies as st
        @given(st.integers(), st.integers())
        def test_1(a, b):
            assert add(a, b) == a + b
    """,
    "staticmethods and nested classes": """
        class TestAdd:
            class TestSmall:
                @staticmethod
                def test_1():
                    assert add(1, 2) == 3
    """,
    "a future import and a docstring": '''
        """Tests."""
        from __future__ import annotations
        def test_1() -> None:
            assert add(1, 2) == 3
    ''',
}  # fmt: skip


@pytest.mark.parametrize("tests", SHAPES.values(), ids=SHAPES.keys())
async def test_every_shape_of_tests_is_run(tests: str) -> None:
    tests = dedent(tests).strip() + "\n"
    right, wrong = await results((ADD, WRONG), [tests])
    assert right.status == "passed", right.output
    assert wrong.status == "failed", wrong.output


@pytest.fixture
def _no_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "site_packages", lambda: None)


@pytest.mark.usefixtures("_no_pytest")
@pytest.mark.parametrize("shape", ["parametrize", "setup_method", "builtin fixtures"])
async def test_tests_that_need_a_missing_pytest_name_the_extra(shape: str) -> None:
    for result in await results((ADD, WRONG), [dedent(SHAPES[shape])]):
        assert (result.status, result.output) == ("error", NO_PYTEST)


@pytest.mark.usefixtures("_no_pytest")
@pytest.mark.parametrize("shape", ["setUpModule", "subTest", "a flag", "relative import"])
async def test_tests_that_do_not_need_pytest_run_without_it(shape: str) -> None:
    tests = dedent(SHAPES[shape])
    right, wrong = await results((ADD, WRONG), [tests])
    assert (right.status, wrong.status) == ("passed", "failed")


async def test_packages_are_read_only_and_absent_from_the_process_of_the_code() -> None:
    folder = mounts.SITE_PACKAGES
    tests = f"assert not exists({folder!r})\ntry:\n    open({folder!r} + '/x', 'w')\nexcept OSError:\n    pass\nelse:\n    assert exists('')"
    code = "import os\ndef exists(path):\n    return os.path.exists(path)"
    assert (await run_python(code, tests)).status == "passed"
