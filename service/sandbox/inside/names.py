"""Names of the code that tests see without importing them, and imports of the code that they share.

Tests do not see a name of the code that is a builtin, that the tests define or import, or that belongs to a testing library
or a well-known package. Code could otherwise replace what its tests compare with.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from .source import BUILTINS, KNOWN_PACKAGES, TestSource, bound_names, public_names

ORDINARY_MODULES = frozenset({
    "abc", "base64", "bisect", "calendar", "cmath", "collections", "collections.abc", "copy", "dataclasses", "datetime", "decimal",
    "enum", "fractions", "functools", "hashlib", "heapq", "itertools", "json", "math", "numbers", "operator", "random", "re",
    "statistics", "string", "textwrap", "time", "typing", "uuid",
})  # fmt: skip
"""Standard modules whose import by the code its tests share.

They compute, and control neither processes nor tests.
"""

_OF_TEST_LIBRARIES = frozenset({
    "approx", "fixture", "mock", "parametrize", "patch", "pytest", "raises", "unittest", "np", "pd", "plt",
})  # fmt: skip
"""Names that tests use of testing libraries and packages, also where they forget the import."""

_RUN_BY_LIBRARIES = frozenset({
    "load_tests", "pytestmark", "setup", "setUpModule", "setup_function", "setup_module", "teardown", "tearDownModule",
    "teardown_function", "teardown_module",
})  # fmt: skip
"""Names that pytest and unittest look up in a module of tests."""


@dataclass(frozen=True)
class SeenNames:
    """Names that tests find in their namespace, besides their own.

    Attributes:
        of_code: Names whose values are those of the code.
        shared: Names that the code imports from ordinary modules, with the objects of the test process.
    """

    of_code: frozenset[str]
    shared: dict[str, Any]


def seen_names(
    source: TestSource, code: str, defined: Collection[str], entry_point: str | None
) -> SeenNames:
    """Return the names that the tests see of the code, which defines `defined`.

    Args:
        source: The tests.
        code: Source of the code.
        defined: Names that the code defined when it was run.
        entry_point: Name of the tested function as the task gives it. A check that ignores its parameter reads it by name, also
            where it is a builtin.
    """
    imports = _Imports(code)
    hidden = source.own_names() | source.standard_modules() | KNOWN_PACKAGES
    hidden |= _OF_TEST_LIBRARIES | _RUN_BY_LIBRARIES | BUILTINS
    visible = {
        name
        for name in (source.words & set(defined)) - hidden
        if not name.startswith(("__", "pytest_"))
    }
    found = {
        name: _imported(*imports.shareable[name]) for name in visible & imports.shareable.keys()
    }
    of_code = visible - imports.names
    is_read_by_name = source.ignores_argument("check") and entry_point not in source.own_names()
    if entry_point in defined and is_read_by_name:
        of_code.add(entry_point)
    return SeenNames(frozenset(of_code), {k: v for k, v in found.items() if v is not None})


class _Imports:
    """Names at the top level of the code that it only imports.

    Attributes:
        names: All of them.
        shareable: Those imported under their own name from ordinary modules: the module, and the name in it or "".
    """

    def __init__(self, code: str) -> None:
        self.names: set[str] = set()
        self.shareable: dict[str, tuple[str, str]] = {}
        defined: set[str] = set()
        for node in _nodes_at_top_level(ast.parse(code)):
            match node:
                case ast.Import(names=names):
                    for each in names:
                        name = each.asname or each.name.partition(".")[0]
                        self._add(name, name, "", is_aliased=each.asname is not None)
                case ast.ImportFrom(module=str(module), names=[ast.alias(name="*")]):
                    is_standard = module.partition(".")[0] in sys.stdlib_module_names
                    self.names |= public_names(module) if is_standard else set()
                case ast.ImportFrom(module=module, level=level, names=names):
                    for each in names:
                        is_aliased = each.asname not in (None, each.name) or level > 0
                        name = each.asname or each.name
                        self._add(name, module or "", each.name, is_aliased=is_aliased)
                case _:
                    defined |= bound_names(node)
        self.names -= defined
        self.shareable = {k: v for k, v in self.shareable.items() if k in self.names}

    def _add(self, name: str, module: str, attribute: str, *, is_aliased: bool) -> None:
        is_first = name not in self.names or self.shareable.get(name) == (module, attribute)
        self.names.add(name)
        if is_first and module in ORDINARY_MODULES and not is_aliased:
            self.shareable[name] = (module, attribute)
        else:
            self.shareable.pop(name, None)


def _imported(module: str, attribute: str) -> Any:
    """Return a module of this process or a public attribute of it; None if there is none."""
    found = importlib.import_module(module)
    if not attribute:
        return found
    return getattr(found, attribute, None) if attribute in public_names(module) else None


def _nodes_at_top_level(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run with the module, without the bodies of functions and classes."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _nodes_at_top_level(node)
