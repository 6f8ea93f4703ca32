"""The code of an answer is the last block that defines something, never output, shell or usage."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.answers import code
from secondpass.strategies.answers.fences import segments

CASES = Path(__file__).parents[2] / "cases/code_extract.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text().splitlines()]
ADD = "def add(a, b):\n    return a + b"
FENCED = f"```python\n{ADD}\n```\n"


@pytest.mark.parametrize("row", ROWS, ids=[str(number) for number in range(len(ROWS))])
def test_recorded_answers_give_working_code(row: dict[str, Any]) -> None:
    extracted = code.extract(row["text"])
    assert extracted is not None
    scope: dict[str, Any] = {}
    exec(extracted, scope)
    assert row["must_define"] in scope
    assert eval(row["check"], scope)


AFTER = {
    "output": "Output:\n```\n3\n```",
    "output with words": "```text\nadd = 3\n```",
    "an equation as output": "Output:\n```output\nresult = 3\n```",
    "shell": "```sh\nADD=1 python add.py\n```",
    "shell with a prompt": "```\n$ python add.py\n3\n```",
    "a session": "```python\n>>> x = add(1, 2)\n>>> x\n3\n```",
    "a notebook cell": "```\nIn [1]: add(1, 2)\nOut[1]: 3\n```",
    "usage": "```python\nresult = add(1, 2)\nprint(result)\n```",
    "usage in a loop": "```python\nfor i in range(3):\n    total = add(i, 1)\n    print(total)\n```",
    "usage with a guard": '```python\nif __name__ == "__main__":\n    print(add(1, 2))\n```',
    "tests": "```python\ndef test_add():\n    assert add(1, 2) == 3\n```",
    "unittest": "```python\nclass TestAdd(unittest.TestCase):\n    def test_1(self): ...\n```",
    "a derived test case": "```python\nclass AddTestCase(unittest.TestCase):\n    def test_1(self): ...\n```",
    "a signature": "The signature is:\n```python\ndef add(a, b):\n```",
    "a stub": '```python\ndef add(a: int, b: int) -> int:\n    """Add.\n\n    More.\n    """\n    # your code\n    ...\n```',
    "usage in another module": "```python\nfrom solution import add\n\ndef total(xs):\n    return add(*xs)\n```",
    "data": '```json\n{"def add(": 1}\n```',
    "a table": "```csv\na,b\n1,2\n```",
    "another language": "```javascript\nfunction add(a, b) { return 0 }\n```",
    "tildes": "~~~text\n3\n~~~",
    "an unclosed block": "```\n3",
    "an empty block": "```\n```",
    "a complexity": "```\nO(1)\n```",
    "a tree": "```\nproject/\n  add.py\n```",
    "prose": "It is a class of problems: def add is fast.",
}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER.keys())
def test_what_follows_the_definition_is_not_the_code(after: str) -> None:
    assert code.extract(f"Here:\n{FENCED}{after}") == ADD
    assert code.extract(f"Here:\n{ADD}\n\n{after}") == ADD
    assert code.extract(f"{FENCED}{after}", finished=False) == ADD


SHAPES = {
    "a longer fence around a fence": f"````python\n{ADD}\n# ```\n````",
    "tildes around backticks": f"~~~python\n{ADD}\n# ```\n~~~",
    "a deep list": "* a\n  * b\n\n        ```py\n        def add(a, b):\n            return a + b\n        ```",
    "a list marker before the fence": "- ```python\n  def add(a, b):\n      return a + b\n  ```",
    "a quote": "> ```python\n> def add(a, b):\n>     return a + b\n> ```",
    "old line ends": FENCED.replace("\n", "\r"),
    "attributes": f"```{{.python}}\n{ADD}\n```",
    "a title": f'```python title="add.py"\n{ADD}\n```',
    "capitals": f"```Python\n{ADD}\n```",
    "a space": f"``` python\n{ADD}\n```",
    "no language": f"```\n{ADD}\n```",
    "trailing blanks": f"```python  \n{ADD}\n```  ",
    "a missing opening fence before usage": f"{ADD}\n```\nUsage:\n```python\nprint(add(1, 2))\n```",
    "a missing opening fence after prose": f"Sure:\n\n{ADD}\n```",
    "Markdown around the block": f"```markdown\nSolution\n{FENCED}",
    "no fence": f"Sure, here is the function.\n\n{ADD}\n\nIt adds two numbers.",
    "a fence at the end of a line": f"```python\n{ADD}```\nIt adds.\n```\n3\n```",
    "a language below the fence": f"```\npython\n{ADD}\n```",
    "commands of a notebook": f"```python\n%%time\n!pip install x\n{ADD}\n```",
    "an indented block": "Solution:\n\n    def add(a, b):\n        return a + b\n\nIt adds.",
    "a helper after the function": "```python\ndef add(a, b):\n    return plus(a, b)\n```\nwith\n```python\ndef plus(a, b):\n    return a + b\n```",
    "an only stub before the function": f"```python\ndef add(a, b):\n    pass\n```\nbecomes\n{FENCED}",
    "a fence in a docstring": f"```python\n{ADD}\n```",
    "a first version": f"```python\ndef add(a, b):\n    return 0\n```\nBetter:\n{FENCED}",
    "reasoning": f"<think>```python\ndef add(a, b): return 0\n```</think>{FENCED}",
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES.keys())
def test_every_form_of_a_block_is_read(text: str) -> None:
    extracted = code.extract(text)
    assert extracted is not None
    scope: dict[str, Any] = {}
    exec(extracted, scope)
    assert scope["add"](1, 2) == 3


JOINED = {
    "imports": ("import math\nfrom fractions import Fraction", "def half(x):\n    return Fraction(x, 2)"),
    "a helper": ("def twice(x):\n    return 2 * x", "def four(x):\n    return twice(twice(x))"),
    "a constant": ("LIMIT = 3", "def is_small(x):\n    return x < LIMIT"),
    "a class": ("class Node:\n    pass", "def make():\n    return Node()"),
    "a chain": ("import math", "def root(x):\n    return math.sqrt(x)", "def f(x):\n    return root(x)"),
}  # fmt: skip


@pytest.mark.parametrize("blocks", JOINED.values(), ids=JOINED.keys())
def test_earlier_blocks_are_included_if_the_last_needs_them(blocks: tuple[str, ...]) -> None:
    text = "\nThen:\n".join(f"```python\n{each}\n```" for each in ("unused = 1", *blocks))
    assert code.extract(text) == "\n\n".join(blocks)


def test_a_stub_is_the_code_if_nothing_else_is() -> None:
    assert code.extract("```python\ndef add(a, b):\n    pass\n```") == "def add(a, b):\n    pass"


def test_an_earlier_version_is_not_included() -> None:
    first = "def add(a, b):\n    return helper(a)\ndef helper(x):\n    return 0"
    assert (
        code.extract(f"```python\n{first}\n```\n```python\n{ADD}\nhelper\n```") == f"{ADD}\nhelper"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```javascript\nlet a = 1\n```\n```text\n1\n```", "let a = 1"),
        ("```sql\nSELECT 1\n```", "SELECT 1"),
        ("```python\nprint('hello')\n```\n```\nhello\n```", "print('hello')"),
        ("```\nprint('hello')\n```\n```\nhello\n```", "print('hello')"),
        ("```python\nanswer = 42\n```", "answer = 42"),
        ("```python\ndef test_it():\n    assert True\n```", "def test_it():\n    assert True"),
        ("```python\ndef broken(:\n```", "def broken(:"),
        ("```bash\nls\n```", None),
        ("The result:\n```\n3\n```", None),
        ("```python\n>>> add(1, 2)\n3\n```", None),
        ("print(1)", "print(1)"),
    ],
)
def test_answers_without_definitions(text: str, expected: str | None) -> None:
    assert code.extract(text) == expected


def test_unclosed_blocks_of_truncated_completions_are_not_the_code() -> None:
    assert code.extract(f"```python\n{ADD}", finished=False) is None
    assert code.extract(ADD, finished=False) is None
    assert code.extract(f"{FENCED}```python\ndef sub(a, b):", finished=False) == ADD


LANGUAGES = st.sampled_from(["text", "output", "bash", "console", "json", "pycon", "sh"])
LINES = st.lists(st.text(st.characters(exclude_characters="`~\r"), max_size=20), max_size=5)


@given(LANGUAGES, LINES, st.booleans())
def test_a_block_of_output_or_shell_is_never_the_code(
    language: str, lines: list[str], is_first: bool
) -> None:
    block = "\n".join([f"```{language}", *lines, "```\n"])
    assert code.extract(block + FENCED if is_first else FENCED + block) == ADD
    assert code.extract(block) is None


@given(st.text(st.sampled_from("`~ >-\nabc\r1.="), max_size=200))
def test_blocks_are_closed_except_the_last(text: str) -> None:
    found = list(segments(text))
    assert all(each.is_closed for each in found[:-1])
    assert found


@pytest.mark.parametrize(
    "unit",
    ["def a(", "class A:\n", "a = 1\n", "```python\na\n```\n", "> ```\n", "from a import b\n", "a.", "(", "-", "a[", "a: ", "@a\n", " ", "~~~\n", "1. ", "- ", "lambda:",
     "%a\n", "!a\n", "    def a():\n", ' """\n', ' """ x\n', "def a(): ...\n", "a```\n", "x`", "AddTest"],
)  # fmt: skip
@pytest.mark.timeout(60)
def test_a_hostile_completion_is_read(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    for completion in (text, f"```python\n{text}\n```", f"{FENCED}```python\nx = a\n{text}"):
        code.extract(completion)
        code.extract(completion, finished=False)
