"""Tests use objects, errors, output and coroutines of right code as if both shared a process."""

from textwrap import dedent

import pytest

from secondpass.service.sandbox.runner import run_python

pytestmark = pytest.mark.anyio

CASES = {
    "arguments that the code changes": (
        """
        def sort(d):
            items = sorted(d.items())
            d.clear()
            d.update(items)
        def push(q):
            q.append(3)
        """,
        """
        from collections import deque
        d, q, b = {"b": 1, "a": 2}, deque([1], maxlen=2), bytearray(b"a")
        sort(d), push(q), push(q), push(b)
        assert (list(d), q, b) == (["a", "b"], deque([3, 3]), b"a\\x03")
        assert q.maxlen == 2
        """,
    ),
    "membership in views and generators": (
        "def keys(d):\n    return d.keys()\ndef count(n):\n    yield from range(n)",
        """
        assert "a" in keys({"a": 1}) and "b" not in keys({"a": 1})
        assert 2 in count(5) and 5 not in count(5)
        """,
    ),
    "custom errors": (
        """
        class InsufficientFunds(ValueError):
            def __init__(self, missing):
                super().__init__(f"missing {missing}")
                self.missing = missing
        class Closed(InsufficientFunds):
            pass
        def draw(n):
            if n > 5:
                raise InsufficientFunds(n - 5)
            if n < 0:
                raise Closed(0)
            return n
        """,
        """
        import pytest
        def test_1():
            with pytest.raises(InsufficientFunds, match="missing 2") as caught:
                draw(7)
            assert caught.value.missing == 2
            with pytest.raises(InsufficientFunds):
                draw(-1)
            with pytest.raises(ValueError):
                draw(8)
            try:
                draw(9)
            except InsufficientFunds as error:
                assert str(error) == "missing 4"
            assert draw(3) == 3
            assert issubclass(Closed, InsufficientFunds)
        """,
    ),
    "a KeyError with its key": (
        "def find(d, k):\n    return d[k]",
        """
        import unittest
        class T(unittest.TestCase):
            def test_1(self):
                with self.assertRaises(KeyError) as caught:
                    find({}, "x")
                self.assertEqual(caught.exception.args, ("x",))
        """,
    ),
    "data classes": (
        """
        from __future__ import annotations
        from dataclasses import dataclass
        @dataclass(order=True, frozen=True)
        class Point:
            x: int
            y: int = 0
            def __add__(self, other: Point) -> Point:
                return Point(self.x + other.x, self.y + other.y)
            def __rmul__(self, n):
                return Point(n * self.x, n * self.y)
        def origin():
            return Point(0, 0)
        """,
        """
        p, q = Point(1, 2), Point(3)
        assert p + q == Point(4, 2) and p != q and p < q
        assert 2 * p == Point(2, 4)
        assert origin() == Point(0) and isinstance(origin(), Point)
        assert len({Point(1), Point(1)}) == 1 and p != None
        assert repr(p) == "Point(x=1, y=2)" and p.x == 1
        """,
    ),
    "named tuples": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef make():\n    return P(1, 2)",
        "assert make() == (1, 2) and make().x == 1 and make()._asdict() == {'x': 1, 'y': 2}",
    ),
    "dates": (
        "from datetime import date, timedelta\ndef after(d, n):\n    return d + timedelta(days=n)",
        "from datetime import date, timedelta\nassert after(date(2020, 2, 28), 2) == date(2020, 3, 1)\nassert after(date(2020, 1, 1), 0) - date(2020, 1, 1) == timedelta()",
    ),
    "paths and types": (
        "from pathlib import Path\ndef name(p):\n    return Path(p) / 'x'\ndef convert(v, to):\n    return to(v)\ndef kind(v):\n    return type(v)",
        "from pathlib import Path\nassert name('a') == Path('a/x')\nassert convert('3', int) == 3 and kind(3) is int",
    ),
    "ranges and queues": (
        "from collections import deque\ndef some(n):\n    return range(n)\ndef last(n, k):\n    return deque(range(n), maxlen=k)",
        "from collections import deque\nassert some(3) == range(3) and list(last(5, 2)) == [3, 4] and last(5, 2) == deque([3, 4])",
    ),
    "an enumeration": (
        "from enum import Enum\nclass Colour(Enum):\n    RED = 1\n    BLUE = 2\ndef first():\n    return Colour.RED",
        "assert first() == Colour.RED and first() is Colour.RED and first() != Colour.BLUE\nassert first().value == 1 and first().name == 'RED'",
    ),
    "a singleton": (
        "class S:\n    one = None\n    def __new__(cls):\n        cls.one = cls.one or super().__new__(cls)\n        return cls.one",
        "assert S() is S()",
    ),
    "changed attributes": (
        "class Account:\n    def __init__(self):\n        self.total = 0\n    def doubled(self):\n        return 2 * self.total",
        "a = Account()\na.total = 4\nassert a.doubled() == 8",
    ),
    "containers": (
        """
        class Bag:
            def __init__(self, *items):
                self.items = list(items)
            def __contains__(self, x):
                return x in self.items
            def __delitem__(self, i):
                del self.items[i]
            def __len__(self):
                return len(self.items)
            def __iter__(self):
                return iter(self.items)
            def __reversed__(self):
                return reversed(self.items)
        """,
        """
        bag = Bag(1, 2, 3)
        assert 2 in bag and 5 not in bag
        del bag[0]
        assert len(bag) == 2 and list(bag) == [2, 3] and list(reversed(bag)) == [3, 2]
        """,
    ),
    "printed output": (
        "def greet(name):\n    print('Hello,', name)",
        """
        import contextlib, io
        def test_1(capsys):
            greet("you")
            assert capsys.readouterr().out == "Hello, you\\n"
            with contextlib.redirect_stdout(io.StringIO()) as text:
                greet("me")
            assert text.getvalue() == "Hello, me\\n"
        """,
    ),
    "coroutines": (
        "import asyncio\nasync def double(x):\n    await asyncio.sleep(0)\n    if x < 0:\n        raise ValueError('negative')\n    return 2 * x",
        """
        import asyncio, pytest
        def test_1():
            assert asyncio.run(double(2)) == 4
        async def test_2():
            assert await double(3) == 6
            assert await asyncio.gather(double(1), double(2)) == [2, 4]
            with pytest.raises(ValueError):
                await double(-1)
        """,
    ),
    "generators": (
        "def count(n):\n    for i in range(n):\n        yield i",
        "g = count(2)\nassert next(g) == 0 and next(g) == 1\ntry:\n    next(g)\n    assert False\nexcept StopIteration:\n    pass\nassert 2 in count(3)",
    ),
    "context managers": (
        "class Timer:\n    def __enter__(self):\n        self.on = True\n        return self\n    def __exit__(self, *_):\n        self.on = False",
        "t = Timer()\nwith t:\n    assert t.on is True\nassert t.on is False",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "tests"), CASES.values(), ids=CASES.keys())
async def test_right_code_passes(code: str, tests: str) -> None:
    result = await run_python(dedent(code), dedent(tests))
    assert result.status == "passed", result.output


UNSUPPORTED = {
    "a derived class": ("class A:\n    pass", "class B(A):\n    pass\nassert B()"),
    "a number of an operator": (
        "class V:\n    def __mul__(self, o):\n        return 11",
        "assert V() * V() == 11",
    ),
    "a comparison with data": (
        "class M:\n    def __eq__(self, o):\n        return o == 5",
        "assert M() == 5",
    ),
    "a comparison of objects of a class without a name": (
        "class P:\n    def __eq__(self, o):\n        return True\ndef make():\n    return P()",
        "assert make() == make()",
    ),
    "a conversion": (
        "class V:\n    def __float__(self):\n        return 1.5",
        "assert float(V()) == 1.5",
    ),
    "a copy": ("class A:\n    pass", "import copy\nassert copy.deepcopy(A()) is not None"),
    "a callback": ("def apply(f, x):\n    return f(x)", "assert apply(lambda x: x + 1, 1) == 2"),
    "a replaced function": (
        "def ask():\n    return int(input())",
        "def test_1(monkeypatch):\n    monkeypatch.setattr('builtins.input', lambda: '3')\n    assert ask() == 3",
    ),
    "replaced input": (
        "def ask():\n    return int(input())",
        "import io, sys\nsys.stdin = io.StringIO('3')\nassert ask() == 3",
    ),
}


@pytest.mark.parametrize(("code", "tests"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
async def test_right_code_that_the_socket_cannot_serve_does_not_fail(code: str, tests: str) -> None:
    result = await run_python(code, tests)
    assert result.status == "error", result.output
