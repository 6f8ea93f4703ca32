"""Source text of tests: the names and modules that they expect of the code."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Collection

FILE_NAME = "tests.py"

SOLUTION_MODULES = frozenset(
    {"solution", "solutions", "candidate", "answer", "submission", "main", "code", "module", "program", "app", "student",
     "your_module", "my_module", "your_code", "your_solution", "my_solution", "mymodule", "yourmodule", "implementation"}
)  # fmt: skip
"""Module names from which tests usually import the code."""

_REDIRECTING = frozenset({"redirect_stdout", "redirect_stderr"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}


class TestSource:
    """Parsed tests.

    Raises SyntaxError, ValueError, RecursionError or MemoryError for text that cannot be parsed.

    Attributes:
        tree: The syntax tree.
        bound: Names that the tests bind, in any scope.
        free: Names that the tests read but neither they nor Python define.
    """

    __test__ = False

    def __init__(self, text: str) -> None:
        text = text.removeprefix("\ufeff")
        self.tree = ast.parse(text)
        self.lines = text.splitlines()
        self.nodes = list(ast.walk(self.tree))
        self._relative = {m for node in self.nodes if (m := _made_absolute(node)) is not None}
        self.bound = {name for node in self.nodes for name in bound_names(node)}
        self.read = {
            node.id
            for node in self.nodes
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        self.free = self.read - self.bound - _BUILTINS

    @property
    def uses_pytest(self) -> bool:
        """True if the tests import pytest."""
        imports = (n for n in self.nodes if isinstance(n, ast.Import | ast.ImportFrom))
        found = {getattr(n, "module", None) or each.name for n in imports for each in n.names}
        return any(name.split(".")[0] == "pytest" for name in found)

    # -- what the tests expect ----------------------------------------------------------------------

    def expected_names(self, modules: Collection[str]) -> set[str]:
        """Return the names that the tests read from the code, which they import as `modules`."""
        expected = set(self.free)
        for node in self.nodes:
            match node:
                case ast.ImportFrom(module=module, names=names) if module in modules:
                    expected |= {each.name for each in names}
                    expected |= self.read if names[0].name == "*" else set()
                case ast.Import(names=names):
                    for each in names:
                        if each.name in modules:
                            expected |= self._attributes_of(
                                each.asname or each.name.partition(".")[0]
                            )
        return expected - _BUILTINS

    def solution_modules(self, defined: Collection[str]) -> set[str]:
        """Return the modules from which the tests import the code, which defines these names."""
        found = set(self._relative)
        for node in self.nodes:
            match node:
                case ast.ImportFrom(module=str(module), names=names):
                    if self._is_solution(module, {each.name for each in names}, defined):
                        found.add(module)
                case ast.Import(names=names):
                    for each in names:
                        used = self._attributes_of(each.asname or each.name.partition(".")[0])
                        if self._is_solution(each.name, used, defined):
                            found.add(each.name)
                case ast.Call(func=func, args=[ast.Constant(value=str(module)), *_]):
                    if _last_name(func) in ("import_module", "__import__"):
                        found |= {module} if self._is_solution(module, set(), defined) else set()
        return found

    def _is_solution(self, module: str, wanted: set[str], defined: Collection[str]) -> bool:
        if wanted == {"*"}:
            wanted = set(self.free)
        if _has_names(module, wanted):
            return False
        is_usual = module.rpartition(".")[2].lower() in SOLUTION_MODULES
        return is_usual or bool(wanted & set(defined))

    def _attributes_of(self, name: str) -> set[str]:
        return {
            node.attr
            for node in self.nodes
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == name
        }

    def has_uncalled_check(self) -> bool:
        """Return whether the tests define a HumanEval-style `check(candidate)` without calling it."""
        functions = (each for each in self.tree.body if isinstance(each, ast.FunctionDef))
        defined = {each.name for each in functions if each.args.posonlyargs or each.args.args}
        return "check" in defined - self.read

    def ignores_argument(self, function: str) -> bool:
        """Return whether a function at the top level never reads its parameters."""
        defined = [
            n for n in self.tree.body if isinstance(n, ast.FunctionDef) and n.name == function
        ]
        names = {e.arg for n in defined for e in ast.walk(n.args) if isinstance(e, ast.arg)}
        return not names & self.read

    def standard_modules(self) -> set[str]:
        """Return the standard modules whose attributes the tests read without importing them."""
        names = {name for name in self.free & sys.stdlib_module_names if self._attributes_of(name)}
        return {name for name in names if _has_names(name, self._attributes_of(name))}

    def tested_builtin(self, defined: Collection[str]) -> str | None:
        """Return the redefined builtin that is the only name of the code in the tests; None if there is none."""
        if self.free - self.standard_modules() or len(self.read & set(defined) & _BUILTINS) != 1:
            return None
        if self._is_reference((self.read & set(defined) & _BUILTINS).pop()):
            return None
        named = set(re.findall(r"\w+", "\n".join(self.lines))) & set(defined) - self.bound
        return named.pop() if len(named) == 1 and named <= _BUILTINS else None

    def uncalled_functions(self) -> list[str]:
        """Return the functions at the top level that assert something and that the tests never read."""
        return [
            each.name
            for each in self.tree.body
            if isinstance(each, _Function)
            and each.name not in self.read
            and not each.decorator_list
            and any(isinstance(node, ast.Assert | ast.Call) for node in ast.walk(each))
        ]

    def _is_reference(self, name: str) -> bool:
        """Return whether the tests call a name that they also pass on, to compare the code with it."""
        called = {id(n.func) for n in self.nodes if isinstance(n, ast.Call)}
        reads = [n for n in self.nodes if isinstance(n, ast.Name) and n.id == name]
        is_passed = self.has_uncalled_check() or any(id(n) not in called for n in reads)
        is_called = any(id(n) in called for n in reads)
        is_ignored = "check" in self.bound and self.ignores_argument("check")
        return is_passed and is_called and not is_ignored

    def captured(self) -> set[str]:
        """Return the names and ".attributes" of the streams to which the tests redirect the code's output."""
        found = {n.arg for n in self.nodes if isinstance(n, ast.arg)} & {"capsys", "capfd"}
        for node in self.nodes:
            match node:
                case ast.Call(func=func, args=args) if _last_name(func) in _REDIRECTING:
                    found |= {each.id for each in args if isinstance(each, ast.Name)}
                case ast.Assign(
                    targets=[ast.Attribute(attr="stdout" | "stderr" as name)], value=value
                ):
                    found |= {f".{name}"} | ({value.id} if isinstance(value, ast.Name) else set())
        return found


def _made_absolute(node: ast.AST) -> str | None:
    """Replace a relative import by an absolute one and return its module; None for any other node."""
    if not isinstance(node, ast.ImportFrom) or not node.level:
        return None
    node.module, node.level = node.module or "solution", 0
    return node.module


def _last_name(func: ast.expr) -> str | None:
    return getattr(func, "attr", None) or getattr(func, "id", None)


def bound_names(node: ast.AST) -> set[str]:
    """Return the names that a node itself binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return {name}
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {(each.asname or each.name).split(".")[0] for each in names}
    return set()


def is_importable(module: str) -> bool:
    """Return whether a module can be imported."""
    if module in sys.modules:
        return True
    try:
        finders = (finder.find_spec(module, None) for finder in sys.meta_path)
        return any(found is not None for found in finders)
    except (ImportError, ValueError, AttributeError):
        return False


def _has_names(module: str, wanted: set[str]) -> bool:
    """Return whether an installed module has at least one of these names, or all of no names."""
    top = module.partition(".")[0]
    if not top or not is_importable(top):
        return False
    try:
        found = __import__(module, fromlist=["*"])
    except BaseException:  # noqa: BLE001 - importing a module may raise anything
        return True  # the error is reported where the tests import it
    return not wanted or any(hasattr(found, name) for name in wanted)
