"""Dependence of tests on the code.

A failure belongs to the code only if the failing expression depends on it. Dependence is computed from the syntax tree: names that the tests read from the code, names that are assigned from those,
and so on. It ignores scopes and order.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator
from types import TracebackType

from .names import SeenNames
from .source import BUILTINS, FILE_NAME, TestSource, bound_names, is_importable
from .wire import MAX_ERROR_CHARACTERS

_TEST_WORDS = (
    "assert", "expect", "mock", "patch", "raises", "approx", "parametrize", "fixture", "given", "pytest", "unittest",
)  # fmt: skip
"""First words of names that belong to testing libraries, not to the code."""

_ALIASES = frozenset({"np", "pd", "plt"})
"""Usual aliases of packages."""

_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.Module
_Control = (
    ast.If | ast.While | ast.Try | ast.For | ast.AsyncFor | ast.With | ast.AsyncWith | ast.Match
)


class Dependence:
    """Parts of the tests that depend on the code.

    Attributes:
        modules: Modules from which the tests import the code.
    """

    def __init__(
        self,
        source: TestSource,
        defined: Collection[str],
        seen: SeenNames,
        entry_point: str | None,
    ) -> None:
        self._source = source
        self._parents = {
            child: node for node in source.nodes for child in ast.iter_child_nodes(node)
        }
        self.modules = source.solution_modules(defined)
        self._hidden = set(defined) - seen.of_code
        self._texts = {*self.modules, *defined} - BUILTINS
        self._tainted = source.free - seen.shared.keys() - source.standard_modules()
        self._tainted |= seen.of_code - source.bound
        self._tainted |= source.captured()
        self._imported = {"self", "cls"}
        for node in source.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._add_import(node, seen.of_code)
        if entry_point is not None:
            self._bind_call(ast.Name("check"))
        size = -1
        while size != len(self._tainted):
            size = len(self._tainted)
            for node in source.nodes:
                self._spread(node)

    def _add_import(self, node: ast.Import | ast.ImportFrom, seen: Collection[str]) -> None:
        if not self._is_dependent(node):
            self._imported |= bound_names(node)
        elif node.names[0].name == "*":
            self._tainted |= set(seen)
        else:
            self._tainted |= bound_names(node)

    def _spread(self, node: ast.AST) -> None:
        """Add the names that a node binds to something that depends on the code."""
        targets, value = _assignment(node)
        if value is not None and self._is_dependent(value):
            self._tainted |= {name for each in targets for name in _stored(each)}
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                if self._is_dependent(node):
                    self._tainted.add(name)
                if any(map(self._is_dependent, node.decorator_list)):
                    self._tainted |= {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
            case ast.Call(func=func, args=args, keywords=keywords):
                if any(map(self._is_dependent, [*args, *(each.value for each in keywords)])):
                    self._bind_call(func)
                if self._is_dependent(func):  # the code may change its arguments
                    self._tainted |= {each.id for each in args if isinstance(each, ast.Name)}
            case _ if isinstance(node, _Control):
                if any(map(self._is_dependent, _conditions(node))):
                    self._tainted |= {n for each in ast.walk(node) for n in bound_names(each)}

    def _bind_call(self, func: ast.expr) -> None:
        """Add the parameters of a called function, or the object whose method is called."""
        called = getattr(func, "attr", None) or getattr(func, "id", None)
        owner = getattr(func, "value", None)
        if isinstance(owner, ast.Name) and owner.id not in self._imported:
            self._tainted.add(owner.id)
        for node in self._source.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == called:
                every = ast.walk(node.args)
                self._tainted |= {n.arg for n in every if isinstance(n, ast.arg)} - {"self", "cls"}

    def _is_dependent(self, node: ast.AST) -> bool:
        return any(
            (isinstance(each, ast.Name) and each.id in self._tainted)
            or (isinstance(each, ast.Attribute) and f".{each.attr}" in self._tainted)
            or (isinstance(each, ast.arg) and each.arg in self._tainted)
            or (isinstance(each, ast.ImportFrom) and each.module in self.modules)
            or (isinstance(each, ast.Import) and any(e.name in self.modules for e in each.names))
            or (isinstance(each, ast.Constant) and each.value in self._texts)
            for each in ast.walk(node)
        )

    def is_exit(self, error: SystemExit) -> bool:
        """Return whether an exit with status 0 is the statement of the tests, not an effect of the code."""
        frames = list(_test_frames(error.__traceback__))
        node = self._node_at(frames[-1]) if frames else None
        called = node.func if isinstance(node, ast.Call) else None
        return not error.code and (called is None or not self._is_dependent(called))

    def missing_name(self, error: BaseException) -> str | None:
        """Return the name that the code lacks, if this error of the tests reports one."""
        name = getattr(error, "name", None)
        if (
            not isinstance(error, NameError)
            or not isinstance(name, str)
            or name not in self._source.free - self._hidden
        ):
            return None
        is_module = name in sys.stdlib_module_names or is_importable(name)
        return (
            None if is_module or name in _ALIASES or name.lower().startswith(_TEST_WORDS) else name
        )

    def is_own_error(self, error: BaseException) -> bool:
        """Return whether an error in the tests does not depend on the code."""
        frames = list(_test_frames(error.__traceback__))
        if not frames:
            return True
        if isinstance(error, NameError) and error.name in self._source.free:
            is_raised_here = frames[-1].tb_next is None
            return is_raised_here and self.missing_name(error) is None
        node = self._node_at(frames[-1])
        if node is None:
            return False
        statement = self._statement(node)
        is_raised = isinstance(error, AssertionError | SystemExit) or isinstance(
            statement, ast.Raise
        )
        if not is_raised and type(error).__name__ != "Failed":
            return not self._is_dependent(node)
        return self._is_own_assertion(statement) and not any(
            self._is_conditional(self._node_at(each)) for each in frames
        )

    def _is_own_assertion(self, statement: ast.stmt) -> bool:
        """Return whether a failed assertion compares nothing of the code."""
        if self._is_dependent(statement):
            return False
        match statement:
            case ast.Assert(test=test):
                is_statement_of_failure = isinstance(test, ast.Constant)
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name))):
                is_statement_of_failure = not name.startswith("assert")
            case _:
                is_statement_of_failure = True
        return not (is_statement_of_failure and self._is_dependent(self._scope(statement)))

    def _is_conditional(self, node: ast.AST | None) -> bool:
        """Return whether a compound statement around a node depends on the code."""
        while node is not None and not isinstance(node, _Scope):
            if isinstance(node, _Control) and self._is_dependent(node):
                return True
            node = self._parents.get(node)
        return False

    def _scope(self, node: ast.AST) -> ast.AST:
        while not isinstance(node, _Scope):
            node = self._parents[node]
        return node

    def _statement(self, node: ast.AST) -> ast.stmt:
        while not isinstance(node, ast.stmt):
            node = self._parents[node]
        return node

    def _node_at(self, frame: TracebackType) -> ast.AST | None:
        """Return the smallest node that contains the failing instruction of a frame."""
        positions = list(frame.tb_frame.f_code.co_positions())[frame.tb_lasti // 2]
        line, last_line, column, last_column = positions
        if line is None or last_line is None or column is None or last_column is None:
            return None
        best: ast.AST | None = None
        for node in self._source.nodes:
            if not isinstance(node, ast.expr | ast.stmt) or node.end_lineno is None:
                continue
            begin, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset or 0)
            if begin <= (line, column) and (last_line, last_column) <= end:
                best = node  # breadth first: later nodes are smaller
        return best

    def described_names(self) -> str:
        """Return an addition to a message: the names of the code that the tests read but do not see."""
        read = sorted(self._hidden & self._source.read - self._source.bound)
        return f"; import from the solution what is its own: {', '.join(read)}" if read else ""

    def described(self, error: BaseException) -> str:
        """Return the failing line, as an addition to a message; "" if the error has none."""
        numbers = [frame.tb_lineno for frame in _test_frames(error.__traceback__)]
        lines = self._source.lines
        if not numbers or numbers[-1] > len(lines):
            return ""
        return f" (line {numbers[-1]} of the tests: {lines[numbers[-1] - 1].strip()[:MAX_ERROR_CHARACTERS]})"


def _test_frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.endswith(FILE_NAME):
            yield traceback
        traceback = traceback.tb_next


def _conditions(node: ast.AST) -> list[ast.AST]:
    """Return the parts of a compound statement that decide whether its body runs."""
    if isinstance(node, ast.Try):
        return [*node.body]
    return [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]


def _assignment(node: ast.AST) -> tuple[list[ast.expr], ast.expr | None]:
    """Return the targets and the value of an assignment in any form; ([], None) for any other node."""
    match node:
        case ast.Assign(targets=targets, value=value):
            return targets, value
        case (
            ast.AugAssign(target=target, value=value)
            | ast.NamedExpr(target=target, value=value)
            | ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.For(target=target, iter=value)
            | ast.AsyncFor(target=target, iter=value)
            | ast.comprehension(target=target, iter=value)
            | ast.withitem(context_expr=value, optional_vars=ast.expr() as target)
        ):
            return [target], value
    return [], None


def _stored(target: ast.expr) -> set[str]:
    """Return the names and ".attributes" that an assignment to a target changes."""
    names: set[str] = set()
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and node.id not in ("self", "cls"):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(f".{node.attr}")
    return names
