"""Edits of each mutation operator, exclusions, and seeded sampling."""

import ast
from collections import Counter
from pathlib import Path
from random import Random
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.mutation import OPERATORS, Mutant, mutants, sample

CHECKOUT = Path(__file__).resolve().parents[2]
MODULES = [f"tools/{name}.py" for name in ("mutants", "processes", "demo")]
CANDIDATES = [mutant for path in MODULES for mutant in mutants(path, (CHECKOUT / path).read_text())]


def edited(text: str, operator: str) -> list[str]:
    """Return the stripped replacement lines of the operator's mutants of `text`."""
    found = []
    for mutant in mutants("module.py", dedent(text) + "\n"):
        if mutant.operator == operator:
            new = mutant.diff().splitlines()[3:]
            found.append(" ".join(line[1:].strip() for line in new if line.startswith("+")))
    return found


@pytest.mark.parametrize(
    ("operator", "text", "expected"),
    [
        ("comparison", "a < b", ["a <= b"]),
        ("comparison", "a >= b", ["a > b"]),
        ("comparison", "a == b", ["a != b"]),
        ("comparison", "(a) not  in (b)", ["(a) in (b)"]),
        ("comparison", "a is b", ["a is not b"]),
        ("comparison", "0 <= a < b", ["0 < a < b", "0 <= a <= b"]),
        ("comparison", "é == b", ["é != b"]),
        ("comparison", "x = (\n    a  # in or is\n    is not b\n)", ["is b"]),
        ("boolean", "a and b and c", ["a or b and c", "a and b or c"]),
        ("boolean", "x = (\n    a  # cheap and quick\n    or b\n)", ["and b"]),
        ("negation", "y = not x", ["y = x"]),
        ("negation", "y = not(x)", ["y = (x)"]),
        ("negation", "y = a if f(x) else b", ["y = a if not f(x) else b"]),
        ("negation", "[a for a in b if a.c]", ["[a for a in b if not a.c]"]),
        ("negation", "while True: pass", []),
        ("negation", "a if b == c else d", []),
        ("off by one", "x = 3", ["x = 4", "x = 2"]),
        ("off by one", "x = y[0]", ["x = y[1]"]),
        ("off by one", "x = -1", ["x = -2", "x = -0"]),
        ("off by one", "x = True, 1.5, '1'", []),
        ("off by one", "x = len(y)", ["x = (len(y) + 1)", "x = (len(y) - 1)"]),
        ("off by one", "x = a // b", ["x = (a // b + 1)", "x = (a // b - 1)"]),
        ("dropped statement", "f(x)", ["pass"]),
        ("dropped statement", "a.b = c[d] = 1", ["pass"]),
        ("dropped statement", "a = 1", []),
        ("dropped statement", "x: int", []),
        ("swapped arguments", "f(a, *b, c, d=1)", []),
        ("swapped arguments", "f(a, a)", []),
        ("swapped arguments", "f(a, (b), c)", ["f(b, (a), c)", "f(a, (c), b)"]),
        ("swapped arguments", "max(a, b), isinstance(a, b)", []),
        ("swapped arguments", "def g():\n    f((yield), b, (yield from c))", []),
    ],
)
def test_each_operator_edits_one_span(operator: str, text: str, expected: list[str]) -> None:
    assert edited(text, operator) == expected


def test_an_assignment_is_dropped_only_if_its_name_is_already_bound() -> None:
    text = """
        def f(given):
            given = g(given)
            new = 1
            if given:
                new += 2
                late = 3
            else:
                late = 4
            late = 5
            for each in given:
                each = 6
    """
    mutated = [m for m in mutants("module.py", dedent(text)) if m.operator == "dropped statement"]

    assert [m.text.splitlines()[m.line - 1].strip() for m in mutated] == [
        "given = g(given)",
        "new += 2",
        "each = 6",
    ]


def test_attribute_assignments_are_dropped_except_in_initialisers() -> None:
    text = """
        class A:
            def __init__(self):
                self.a = 1
                self.register()

            def reset(self):
                self.a = 1
    """
    lines = [m.line for m in mutants("m.py", dedent(text)) if m.operator == "dropped statement"]

    assert lines == [5, 8]


@pytest.mark.parametrize(
    "text",
    [
        '"""1 < 2"""\nfrom __future__ import annotations\nimport a',
        "__all__ = ['a', f(1, 2)]",
        "x: Literal[1, 2] | f(1, 2)",
        "def f(x: g(1, 2)) -> g(1, 2): ...",
        "@lru_cache(maxsize=1)\nclass A(f(1, 2)): ...",
        "Kind = Literal[1, 2]",
        "y = f'{x + 1} {a and b}'",
        "assert x == 1, 'two'",
        "if TYPE_CHECKING:\n    x = f(1, 2)",
        "if __name__ == '__main__':\n    sys.exit(main(1))",
        "def f():\n    self.logger.info('%d', x + 1)\n    warnings.warn('a', B, stacklevel=2)",
        "class A(Protocol[T]):\n    def f(self, x=1):\n        self.a(1, 2)",
        "class A:\n    @abc.abstractmethod\n    def f(self, x=1):\n        self.a(1, 2)",
    ],
)
def test_excluded_code_has_no_mutants(text: str) -> None:
    assert list(mutants("module.py", text)) == []


def test_defaults_and_annotated_values_are_mutated() -> None:
    text = "@cached(1)\ndef f(x: T[2] = 3, *, y: int = 4) -> T[5]:\n    z: T[6] = 7\n    return z"

    changed = [m.text[slice(*m.edit[:2])] for m in mutants("module.py", text)]

    assert sorted(set(changed)) == ["3", "4", "7"]


def test_every_mutant_compiles_to_a_different_tree() -> None:
    for path in MODULES:
        text = (CHECKOUT / path).read_text()
        unchanged = ast.dump(ast.parse(text))
        for mutant in mutants(path, text):
            assert ast.dump(ast.parse(mutant.mutated)) != unchanged


def test_an_edit_within_a_line_has_a_diff_of_two_lines() -> None:
    (mutant,) = mutants("a/b.py", "x = 1.0\ny = not x\nz = x\n")

    assert mutant.diff() == (
        "--- a/b.py\n+++ a/b.py\n@@ -1,3 +1,3 @@\n x = 1.0\n-y = not x\n+y = x\n z = x\n"
    )


def site(mutant: Mutant) -> tuple[str, str, int]:
    return mutant.operator, mutant.path, mutant.edit[0]


@given(seed=st.integers(), count=st.integers(1, 40), more=st.integers(0, 20), order=st.randoms())
def test_samples_are_reproducible_and_a_larger_one_extends_a_smaller_one(
    seed: int, count: int, more: int, order: Random
) -> None:
    shuffled = list(CANDIDATES)
    order.shuffle(shuffled)

    drawn = sample(CANDIDATES, count, seed)

    assert len(drawn) == count
    assert sample(shuffled, count + more, seed)[:count] == drawn


@given(seed=st.integers(), count=st.integers(1, 40))
def test_operators_are_drawn_evenly_and_sites_once(seed: int, count: int) -> None:
    drawn = sample(CANDIDATES, count, seed)
    drawn_by = Counter(mutant.operator for mutant in drawn)

    assert max(drawn_by.values()) - min(drawn_by[operator] for operator in OPERATORS) <= 1
    assert len({site(mutant) for mutant in drawn}) == count


def test_seeds_differ_and_a_sample_reaches_every_module() -> None:
    assert sample(CANDIDATES, 30, seed=1) != sample(CANDIDATES, 30, seed=2)
    assert {mutant.path for mutant in sample(CANDIDATES, 100, seed=1)} == set(MODULES)


def test_edits_elsewhere_keep_the_order_of_the_sample() -> None:
    text = "".join(f"a{n} = b{n} < {n}.5\n" for n in range(50))
    before = sample(mutants("module.py", text), 10, seed=1)
    after = sample(mutants("module.py", "import c\n\n" + text), 10, seed=1)

    assert [mutant.line + 2 for mutant in before] == [mutant.line for mutant in after]


def test_a_count_above_the_number_of_sites_returns_all_sites() -> None:
    assert len(sample(mutants("module.py", "f(a, 2)"), 99, seed=1)) == 3
