"""Right code is accepted, or not judged, where tests rely on state that the processes do not share."""

import pytest

from secondpass.service.sandbox.runner import run_python
from tests.sandbox.sandboxes import results

pytestmark = pytest.mark.anyio

SHARED = {
    "a module that is not imported": (
        "def half(a):\n    return a / 2",
        "def half(a):\n    return a",
        "assert math.isclose(half(3), 1.5)",
    ),
    "docstrings and annotations": (
        'class P:\n    """A point."""\n    x: int\ndef f(a: int):\n    "Add."\n    return a + 1',
        "class P:\n    x: str\ndef f(a: int):\n    return a + 1",
        "assert P.__doc__ == 'A point.' and 'Add' in f.__doc__\nassert P.__annotations__ == {'x': int}\nassert f(1) == 2",
    ),
    "errors of the standard library": (
        "import json\nfrom dataclasses import dataclass\n@dataclass(frozen=True)\nclass P:\n    x: int\nload = json.loads",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef load(x):\n    raise ValueError(x)",
        "import dataclasses, json, pytest\ndef test_1():\n    p = P(1)\n    with pytest.raises(dataclasses.FrozenInstanceError):\n        p.x = 2\n    with pytest.raises(json.JSONDecodeError, match='Expecting value'):\n        load('x')\n    assert load('1') == 1",
    ),
    "counters and default values": (
        "from collections import Counter, OrderedDict, defaultdict\ndef count(x, d):\n    for each in x:\n        d[each] += 1\n    return Counter(x), OrderedDict(d)",
        "def count(x, d):\n    return {}, {}",
        "from collections import defaultdict\nd = defaultdict(int)\nc, o = count('aab', d)\nassert c.most_common(1) == [('a', 2)] and c['z'] == 0\nassert d == {'a': 2, 'b': 1} and d['z'] == 0\no.move_to_end('a')\nassert list(o) == ['b', 'a']",
    ),
    "asynchronous iteration": (
        "class R:\n    async def __aenter__(self):\n        return 1\n    async def __aexit__(self, *_):\n        pass\nasync def count(n):\n    for i in range(n):\n        yield i",
        "class R:\n    async def __aenter__(self):\n        return 2\n    async def __aexit__(self, *_):\n        pass\nasync def count(n):\n    yield 0",
        "import asyncio\nasync def main():\n    async with R() as one:\n        assert [x async for x in count(3)] == [0, one, 2]\nasyncio.run(main())",
    ),
    "an event loop": (
        "import asyncio\nqueue = asyncio.Queue()\nasync def put(x):\n    await queue.put(x)\nasync def get():\n    return await queue.get()",
        "async def put(x):\n    pass\nasync def get():\n    return 0",
        "async def test_1():\n    await put(3)\n    assert await get() == 3",
    ),
    "captured output": (
        "def hello():\n    print('hello')",
        "def hello():\n    print('bye')",
        "import io\nfrom contextlib import redirect_stdout\nb = io.StringIO()\nwith redirect_stdout(b):\n    hello()\nassert b.getvalue() == 'hello\\n'",
    ),
    "output captured by pytest": (
        "def hello():\n    print('hello')",
        "def hello():\n    print('bye')",
        "def test_1(capsys):\n    hello()\n    assert capsys.readouterr().out == 'hello\\n'",
    ),
    "an uncalled check": (
        "def _two():\n    return 2\ndef add(a, b):\n    return a + b",
        "def add(a, b):\n    return 0",
        "METADATA = {}\ndef check(candidate):\n    assert candidate(1, 2) == 3",
    ),
    "an uncalled check that names the code": (
        "def two():\n    return 2\ndef add(a, b):\n    return a + b",
        "def two():\n    return 2\ndef add(a, b):\n    return 0",
        "def check(candidate):\n    assert add(1, 2) == 3",
    ),
    "annotations without imports": (
        "class Solution:\n    def double(self, x: List[int]) -> Optional[List[int]]:\n        return x + x",
        "class Solution:\n    def double(self, x):\n        return x",
        "def expect(x: List[int], y: List[int]) -> None:\n    assert Solution().double(x) == y\nexpect([1], [1, 1])",
    ),
    "a byte order mark": (
        "def add(a, b):\n    return a + b",
        "def add(a, b):\n    return 0",
        "\ufeffassert add(1, 2) == 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "tests"), SHARED.values(), ids=SHARED.keys())
async def test_right_code_is_accepted_and_wrong_code_fails(
    right: str, wrong: str, tests: str
) -> None:
    found = await results((right, wrong), [tests])
    assert [each.status for each in found] == ["passed", "failed"]


UNSHARED = {
    "files": (
        "def read(path):\n    return open(path).read()",
        "def test_1(tmp_path):\n    (tmp_path / 'x').write_text('1')\n    assert read(str(tmp_path / 'x')) == '1'",
    ),
    "opened files": (
        "import os\ndef size(path):\n    return os.path.getsize(path) if os.path.exists(path) else 0",
        "with open('x', 'w') as file:\n    file.write('1')\nassert size('x') == 1",
    ),
    "signatures": (
        "def add(a, b):\n    return a + b",
        "import inspect\nassert list(inspect.signature(add).parameters) == ['a', 'b']",
    ),
    "types of results": (
        "class P:\n    pass\ndef make():\n    return P()",
        "assert type(make()) is P and type(make()).__name__ == 'P'",
    ),
    "fields": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int",
        "from dataclasses import asdict\nassert asdict(P(1)) == {'x': 1}",
    ),
    "views": ("def keys(d):\n    return d.keys()", "assert keys({'a': 1}) == {'a'}"),
    "warnings": (
        "import warnings\ndef f():\n    warnings.warn('old')",
        "import pytest\ndef test_1():\n    with pytest.warns(UserWarning):\n        f()",
    ),
    "seeds": (
        "import random\ndef roll():\n    return random.random()",
        "import random\nrandom.seed(1)\nassert roll() == 0.13436424411240122",
    ),
    "the environment": (
        "import os\ndef home():\n    return os.environ.get('HOME_DIR')",
        "import os\nos.environ['HOME_DIR'] = '/x'\nassert home() == '/x'",
    ),
    "the recursion limit": (
        "def depth(n):\n    return n and 1 + depth(n - 1)",
        "import sys\nsys.setrecursionlimit(10_000)\nassert depth(3000) == 3000",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "tests"), UNSHARED.values(), ids=UNSHARED.keys())
async def test_state_that_is_not_shared_never_counts_against_right_code(
    code: str, tests: str
) -> None:
    result = await run_python(code, tests)
    assert result.status == "error", result.output


async def test_words_of_unshared_state_do_not_excuse_plain_results() -> None:
    tests = "import random\nrandom.seed(1)\nassert type(add(1, 2)) is int and add(1, 2) == 3"
    assert (await run_python("def add(a, b):\n    return 0", tests)).status == "failed"


FORGERIES = {
    "a redefined builtin beside the function": (
        "def length(x):\n    return 0\nlen = abs = lambda _: 3",
        "assert len(length([1])) == 3",
    ),
    "a redefined builtin in place of the function": ("len = lambda _: 3", "assert len(length([1])) == 3"),
    "a redefined builtin for evaluated tests": (
        "def length(x):\n    return [0]\nlen = lambda _: 3",
        "exec('assert len(length([1])) == 3')",
    ),
    "a skip of the standard library": ("from unittest import SkipTest\ndef f(x):\n    raise SkipTest", "import unittest\nclass T(unittest.TestCase):\n    def test_1(self):\n        self.assertEqual(f(1), 2)"),
    "an error that pytest ignores": ("from bdb import BdbQuit\ndef f(x):\n    raise BdbQuit", "import pytest\ndef test_1():\n    assert f(1) == 2"),
    "a context that suppresses failures": (
        "class R:\n    x = 0\n    def __enter__(self):\n        return self\n    def __exit__(self, *_):\n        return True",
        "with R() as r:\n    assert r.x == 2",
    ),
    "a context that replaces failures": (
        "class R:\n    x = 0\n    def __enter__(self):\n        return self\n    def __exit__(self, *_):\n        raise ValueError",
        "try:\n    with R() as r:\n        assert r.x == 2\nexcept ValueError:\n    pass",
    ),
    "a builtin that is its own reference": ("def len(x):\n    return 7", "def check(candidate):\n    assert candidate([1]) == len([1])\ncheck(len)"),
    "a builtin that is its own reference of an uncalled check": ("def len(x):\n    return 7", "def check(candidate):\n    assert candidate([1]) == len([1])"),
    "a context that suppresses its own errors": (
        "class R:\n    def __enter__(self):\n        return self\n    def __exit__(self, *_):\n        return True\n    def get(self):\n        raise ValueError",
        "with R() as r:\n    assert r.get() == 2",
    ),
    "an asynchronous context that suppresses failures": (
        "class R:\n    x = 0\n    async def __aenter__(self):\n        return self\n    async def __aexit__(self, *_):\n        return True",
        "async def test_1():\n    async with R() as r:\n        assert r.x == 2",
    ),
    "a helper in place of the tested function": ("def f(x):\n    return 2\ndef g(x):\n    return 3", "def check(candidate):\n    assert candidate(1) == 3"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "tests"), FORGERIES.values(), ids=FORGERIES.keys())
async def test_shared_names_and_errors_forge_no_verdict(code: str, tests: str) -> None:
    assert (await run_python(code, tests)).status != "passed"
