"""Collection and execution of tests: top-level assertions, functions, classes and doctests.

Tests that use pytest are run by pytest; all others need the standard library only.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import sys
import types
import unittest
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .dependence import Dependence
from .names import SeenNames
from .source import FILE_NAME, TestSource
from .wire import typing_names

NO_PYTEST = "pytest is not installed; install secondpass[sandbox]"

_HOOKS = ("setup_module", "setup_function", "teardown_module", "teardown_function")

_PYTEST_OPTIONS = [
    "-q", "-s", "--noconftest", "--assert=plain", "-pno:cacheprovider", "-c/dev/null", "-Wignore",
]  # fmt: skip


class Unexplained(AssertionError):
    """A failure without an exception of the tests, such as an unexpected success."""


class TestsUnrunnable(Exception):
    """The tests could not be run. The message contains the reason."""


class TestRun:
    """One execution of tests, with the names of a candidate or of a null candidate.

    Attributes:
        failures: Errors in order of their occurrence.
    """

    __test__ = False

    def __init__(
        self, source: TestSource, dependence: Dependence, names: Mapping[str, Any], seen: SeenNames
    ) -> None:
        self.failures: list[BaseException] = []
        self._dependence = dependence
        self._source = source
        self._seen = seen
        self._module = types.ModuleType("__main__", _docstring(source))
        self._scope = vars(self._module)
        self._names = {k: v for k, v in names.items() if not k.startswith("__")}
        self._scope.update({k: v for k, v in self._names.items() if k in seen.of_code})
        mentioned = typing_names("\n".join(source.free))
        self._scope |= {k: v for k, v in mentioned.items() if k not in seen.of_code}
        self._scope |= seen.shared
        for name in source.standard_modules():
            self._scope[name] = importlib.import_module(name)
        self._given = dict(self._scope)
        self._scope["__file__"] = str(Path.cwd() / FILE_NAME)

    def run(self, tested: Any = None) -> list[BaseException]:
        """Run the tests; `tested` is the argument of a HumanEval-style `check`. Raises TestsUnrunnable."""
        self._install_modules()
        if not self._run_top_level():
            return self.failures
        own = {
            name: value
            for name, value in self._scope.items()
            if name not in self._given or value is not self._given[name]
        }
        if tested is not None and isinstance(own.get("check"), types.FunctionType):
            self._call(own["check"], tested)
        has_tests = self._run_collected(own)
        if not has_tests or "doctest" in self._source.read:
            has_tests |= self._run_doctests()
        if not has_tests:
            for name in self._source.uncalled_functions():
                if name in own and not _parameters(own[name]):
                    self._call(own[name])
        return self.failures

    def _install_modules(self) -> None:
        """Make the names importable, and replace the functions that run tests and exit."""
        sys.modules["__main__"] = self._module
        sys.argv[:] = [FILE_NAME]
        solution = types.ModuleType("solution")
        vars(solution).update(self._names)
        vars(solution)["__all__"] = [k for k in self._seen.of_code if not k.startswith("_")]
        for name in self._dependence.modules:
            parts = name.split(".")
            for length in range(1, len(parts)):
                parent = ".".join(parts[:length])
                sys.modules.setdefault(parent, types.ModuleType(parent)).__path__ = []
            sys.modules[name] = solution
        unittest.main = _no_main  # type: ignore[assignment] # its classes are collected
        if self._source.uses_pytest:
            _pytest().main = lambda *_, **__: 0

    def _run_top_level(self) -> bool:
        """Run the statements at the top level; False if they raised, or skipped the tests."""
        try:
            tree = self._source.tree
            exec(compile(tree, FILE_NAME, "exec", dont_inherit=True), self._scope)  # noqa: S102 - the purpose of this process
        except SystemExit as error:
            if not self._dependence.is_exit(error):
                self.failures.append(error)
                return False
        except BaseException as error:  # noqa: BLE001 - a test may raise anything
            if not _is_skip(error):
                self.failures.append(error)
            return False
        return True

    def _run_collected(self, own: Mapping[str, Any]) -> bool:
        """Run functions and classes; return whether there are any."""
        functions = {
            name: value
            for name, value in own.items()
            if name.startswith("test") and callable(value) and not isinstance(value, type)
        }
        helpers = {n for n, v in functions.items() if n in self._source.read and _parameters(v)}
        functions = {name: value for name, value in functions.items() if name not in helpers}
        classes = [v for k, v in own.items() if isinstance(v, type) and k.startswith("Test")]
        cases = [v for v in own.values() if isinstance(v, type) and _is_case(v)]
        needs_pytest = self._source.uses_pytest or any(map(_parameters, functions.values()))
        needs_pytest |= any(not _is_case(each) for each in classes) or bool(own.keys() & _HOOKS)
        if needs_pytest and (functions or classes or cases):
            excluded = self._given.keys() - own.keys() | helpers
            self.failures += run_pytest(self._module, excluded)
            return True
        for function in functions.values():
            self._call(function)
        if cases:
            result = _Result(self.failures)
            loader = unittest.TestLoader()
            suites = [loader.loadTestsFromTestCase(each) for each in dict.fromkeys(cases)]
            unittest.TestSuite(suites).run(result)
        return bool(functions or cases)

    def _call(self, function: Callable[..., Any], *given: Any) -> None:
        try:
            value = function(*given)
            if inspect.iscoroutine(value):
                _run_coroutine(value)
        except BaseException as error:  # noqa: BLE001 - a test may raise anything
            if not _is_skip(error):
                self.failures.append(error)

    def _run_doctests(self) -> bool:
        """Run the examples in the docstrings of the tests; return whether there are any."""
        defined = (n for n in self._source.nodes if isinstance(n, ast.FunctionDef | ast.ClassDef))
        texts = [_docstring(self._source), *(ast.get_docstring(each) or "" for each in defined)]
        parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False)
        found = False
        for text in texts:
            test = parser.get_doctest(text, dict(self._scope), FILE_NAME, None, 0)
            found |= bool(test.examples)
            report: list[str] = []
            if runner.run(test, out=report.append).failed:
                self.failures.append(Unexplained("".join(report)[:400]))
        return found


def run_pytest(module: types.ModuleType, excluded: set[str]) -> list[BaseException]:
    """Run the tests in a module by pytest, except those with excluded names, and return their errors."""
    pytest = _pytest()
    failures: list[BaseException] = []

    class Module(pytest.Module):  # type: ignore[name-defined, misc]
        def _getobj(self) -> types.ModuleType:
            return module

    first: Callable[[Any], Any] = pytest.hookimpl(tryfirst=True)

    class Plugin:
        def pytest_pycollect_makemodule(self, module_path: Path, parent: Any) -> Any:
            return Module.from_parent(parent, path=module_path)

        @first
        def pytest_pycollect_makeitem(self, name: str) -> list[Any] | None:
            return [] if name in excluded else None

        @first
        def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool | None:
            function = pyfuncitem.obj
            if not inspect.iscoroutinefunction(function):
                return None
            arguments = inspect.signature(function).parameters
            _run_coroutine(function(**{name: pyfuncitem.funcargs[name] for name in arguments}))
            return True

        def pytest_exception_interact(self, call: Any) -> None:
            is_success = (
                call.excinfo.errisinstance(pytest.fail.Exception)
                and str(call.excinfo.value) == "Unexpected success"
            )
            failures.append(Unexplained("unexpected success") if is_success else call.excinfo.value)

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed and "XPASS" in str(report.longrepr):
                failures.append(Unexplained(str(report.longrepr)))

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    path = Path.cwd() / FILE_NAME
    status = pytest.real_main([*_PYTEST_OPTIONS, f"--rootdir={path.parent}", str(path)], [Plugin()])
    if status not in (0, 1, 5) and not failures:
        raise TestsUnrunnable(f"pytest ended with status {int(status)}")
    return failures


class _Result(unittest.TestResult):
    """Result of unittest cases that collects their errors."""

    def __init__(self, failures_found: list[BaseException]) -> None:
        super().__init__()
        self._found = failures_found

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802 - the name of unittest
        self._found.append(err[1])

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        self._found.append(err[1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        if err is not None:
            self._found.append(err[1])

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        self._found.append(Unexplained(f"unexpected success of {test}"))


def _pytest() -> Any:
    """Return the module pytest, whose `main` the tests cannot call. Raises TestsUnrunnable without it."""
    try:
        pytest: Any = importlib.import_module("pytest")
    except ImportError as error:
        raise TestsUnrunnable(NO_PYTEST) from error
    if not hasattr(pytest, "real_main"):
        pytest.real_main = pytest.main
    return pytest


def _no_main(*_: Any, **__: Any) -> Any:
    """Stand-in for `unittest.main`: its cases are collected in any case."""
    return types.SimpleNamespace(result=unittest.TestResult())


def _run_coroutine(coroutine: Any) -> None:
    importlib.import_module("asyncio").run(coroutine)  # imported on demand: it doubles the start


def _parameters(function: Any) -> list[str]:
    """Return the required parameters of a function."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


def _is_case(value: type) -> bool:
    return issubclass(value, unittest.TestCase)


def _is_skip(error: BaseException) -> bool:
    outcomes: Any = sys.modules.get("_pytest.outcomes")
    skipped = (unittest.SkipTest, outcomes.Skipped) if outcomes else unittest.SkipTest
    return isinstance(error, skipped)


def _docstring(source: TestSource) -> str:
    return ast.get_docstring(source.tree) or ""
