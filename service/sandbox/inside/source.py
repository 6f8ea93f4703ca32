"""Source text of tests: the names and modules that they expect of the code."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import symtable
import sys
from collections.abc import Collection

FILE_NAME = "tests.py"

SOLUTION_MODULES = frozenset(
    {"solution", "solutions", "candidate", "answer", "submission", "main", "code", "module", "program", "app", "student",
     "your_module", "my_module", "your_code", "your_solution", "my_solution", "mymodule", "yourmodule", "implementation"}
)  # fmt: skip
"""Module names from which tests usually import the code."""

KNOWN_PACKAGES = frozenset({
    "PIL", "attr", "attrs", "bs4", "cv2", "django", "fastapi", "flask", "freezegun", "hypothesis", "jax", "matplotlib", "networkx",
    "nose", "numpy", "pandas", "parameterized", "pydantic", "pytest", "requests", "responses", "scipy", "seaborn", "skimage", "sklearn",
    "sqlalchemy", "sympy", "tensorflow", "torch", "yaml",
})  # fmt: skip
"""Well-known packages. The code never replaces them, also where one is not installed."""

_OTHER_PACKAGES = frozenset({
    "aioresponses", "approvaltests", "assertpy", "asynctest", "dateutil", "ddt", "deepdiff", "expects", "faker", "hamcrest", "httpx",
    "mock", "more_itertools", "moto", "polars", "pyfakefs", "pytest_asyncio", "pytest_check", "pytest_mock", "pytz",
    "respx", "sortedcontainers", "sure", "syrupy", "testfixtures", "toolz", "typing_extensions", "unittest2", "vcr",
})  # fmt: skip
"""Packages that tests compare with.

The code never replaces these modules, but may use their names for something else.
"""

_REDIRECTING = frozenset({"redirect_stdout", "redirect_stderr"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef
BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}


class TestSource:
    """Parsed tests.

    Raises SyntaxError, ValueError, RecursionError or MemoryError for text that cannot be parsed.

    Attributes:
        tree: The syntax tree.
        bound: Names that the tests bind, in any scope.
        free: Names that the tests read but neither they nor Python define.
        words: Identifiers in the text, also in strings and comments.
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
        self.free = self.read - self.bound - BUILTINS
        self.words = self.read | set(re.findall(r"\w+", text))
        self._global = _global_names(symtable.symtable(text, FILE_NAME, "exec"))
        self._standard: set[str] | None = None

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
        return expected - BUILTINS

    def own_names(self) -> set[str]:
        """Return the names that the tests define or import as globals."""
        own = set(self._global)
        for node in self.nodes:
            match node:
                case ast.ImportFrom(module=str(module), names=[ast.alias(name="*")]):
                    own |= public_names(module)
        return own

    def solution_modules(self, defined: Collection[str]) -> set[str]:
        """Return the modules from which the tests import the code, which defines these names.

        These are modules with a usual name. Without one, they are those that are not installed and whose names the code
        defines, unless the tests already name the code without an import.
        """
        wanted: dict[str, set[str]] = {}
        for node in self.nodes:
            match node:
                case ast.ImportFrom(module=str(module), names=names):
                    wanted.setdefault(module, set()).update(each.name for each in names)
                case ast.Import(names=names):
                    for each in names:
                        used = self._attributes_of(each.asname or each.name.partition(".")[0])
                        wanted.setdefault(each.name, set()).update(used)
                case ast.Call(func=func, args=[ast.Constant(value=str(module)), *_]):
                    if _last_name(func) in ("import_module", "__import__"):
                        wanted.setdefault(module, set())
        starred = {module for module, names in wanted.items() if "*" in names}
        wanted = {k: v | self.free if k in starred else v for k, v in wanted.items()}
        usual = {module for module, names in wanted.items() if _is_usual(module, names)}
        if found := usual | self._relative:
            return found
        unknown = {k for k, v in wanted.items() if v & set(defined) and _is_unknown(k)}
        is_named = bool(self.free & set(defined) - self.standard_modules())
        return unknown & starred if is_named else unknown

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
        if self._standard is None:
            read = re.findall(r"(?<![\w.])(\w+)\.(\w+)", "\n".join(self.lines))
            names = sys.stdlib_module_names - self.bound
            self._standard = {n for n, each in read if n in names and each in _attributes(n)}
        return self._standard

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


def _attributes(module: str) -> Collection[str]:
    try:
        return vars(importlib.import_module(module)).keys()
    except BaseException:  # noqa: BLE001 - importing a module may raise anything
        return ()


def public_names(module: str) -> set[str]:
    """Return the names that a star import of an installed module binds; none of any other module."""
    try:
        found = importlib.import_module(module)
    except BaseException:  # noqa: BLE001 - importing a module may raise anything
        return set()
    exported = getattr(found, "__all__", None)
    return set(exported or [name for name in vars(found) if not name.startswith("_")])


def is_importable(module: str) -> bool:
    """Return whether a module can be imported."""
    if module in sys.modules:
        return True
    try:
        finders = (finder.find_spec(module, None) for finder in sys.meta_path)
        return any(found is not None for found in finders)
    except (ImportError, ValueError, AttributeError):
        return False


def _is_usual(module: str, wanted: set[str]) -> bool:
    """Return whether a module has a usual name of the code, and is not installed with these names."""
    top, _, name = module.rpartition(".")
    if name.lower() not in SOLUTION_MODULES or (top and not _is_unknown(top)):
        return False
    return not _has_names(module, wanted)


def _is_unknown(module: str) -> bool:
    top = module.partition(".")[0]
    known = KNOWN_PACKAGES | _OTHER_PACKAGES | sys.stdlib_module_names
    return top not in known and not is_importable(top)


def _global_names(table: symtable.SymbolTable) -> set[str]:
    """Return the names that a module binds as globals, also by a `global` statement in its functions."""
    found = {
        each.get_name()
        for each in table.get_symbols()
        if (each.is_assigned() or each.is_imported())
        and (table.get_type() == "module" or each.is_declared_global())
    }
    return found.union(*map(_global_names, table.get_children()))


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
