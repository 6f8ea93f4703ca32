"""State of a process that tests rely on and that the code's process does not share.

Tests may replace, inspect or prepare objects of their own process. Their failures then reveal nothing about the code.
"""

from __future__ import annotations

import ast
import re

from .source import TestSource

_REPLACING = frozenset({"patch", "monkeypatch", "MagicMock", "mock"})
_REPLACED = frozenset({"sys.stdin", "sys.argv", "builtins.input", "builtins.open"})
_INSPECTING = frozenset({
    "signature", "getfullargspec", "getsource", "getdoc", "getmembers", "get_type_hints", "isfunction", "isclass", "ismethod",
    "isgenerator", "isgeneratorfunction", "iscoroutine", "iscoroutinefunction", "isasyncgen", "isasyncgenfunction", "isawaitable",
    "isabstract", "GeneratorType", "FunctionType", "LambdaType", "MethodType", "CoroutineType", "Generator", "Coroutine",
    "AsyncGenerator", "AsyncIterator", "AsyncIterable", "Awaitable",
})  # fmt: skip
_INSPECTING_RESULTS = frozenset({
    "type", "vars", "dir", "asdict", "astuple", "fields", "is_dataclass", "__class__", "__dict__",
})  # fmt: skip
_LISTENING = frozenset({
    "warns", "deprecated_call", "catch_warnings", "recwarn", "assertWarns", "assertWarnsRegex", "caplog", "assertLogs",
    "assertNoLogs", "addHandler",
})  # fmt: skip
_WRITING = frozenset({
    "tmp_path", "tmpdir", "tmp_path_factory", "tmpdir_factory", "NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile",
    "mkstemp", "mkdtemp", "write_text", "write_bytes", "mkdir", "makedirs", "chdir",
})  # fmt: skip

_REPLACES = "they replace objects (patch, monkeypatch, sys.stdin), which has no effect on the code's process"
_SETS = "they set environment variables, which has no effect on the code's process"
_INSPECTS = "they inspect objects that exist only in the code's process"
_LISTENS = "they observe warnings or logs, of which the code's process has its own"
_WRITES = "they write files, which the code's process cannot read"
_SEEDS = "they seed random numbers, which has no effect on the code's process"
_LIMITS = "they set the recursion limit, which has no effect on the code's process"


def unshared_state(
    source: TestSource, code: str, error: BaseException, *, has_results: bool
) -> str | None:
    """Return why a failure may be due to state that is not shared; None if nothing suggests it.

    Args:
        source: The tests.
        code: Source of the code.
        error: The failure.
        has_results: True if the code returned objects that are not plain data.
    """
    words = source.read | {n.arg for n in source.nodes if isinstance(n, ast.arg)}
    words |= {node.attr for node in source.nodes if isinstance(node, ast.Attribute)}
    words |= {
        each.name
        for node in source.nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for each in node.names
    }
    replaced = _replaced(source)
    reasons = {
        _REPLACES: words & _REPLACING or replaced & _REPLACED,
        _SETS: replaced & {"os.environ"} and _names(code, "environ|getenv"),
        _INSPECTS: words & _INSPECTING or (has_results and words & _INSPECTING_RESULTS),
        _LISTENS: words & _LISTENING and _names(code, "warn|warnings|logging|logger|log"),
        _WRITES: (words & _WRITING or _opens_to_write(source))
        and _names(code, "open|Path|os|shutil|glob|csv|sqlite3|fileinput"),
        _SEEDS: "seed" in words and _names(code, "random|shuffle|choice|randint|sample"),
        _LIMITS: "setrecursionlimit" in words and isinstance(error, RecursionError),
    }
    return next((why for why, holds in reasons.items() if holds), None)


def _names(code: str, words: str) -> bool:
    return re.search(rf"\b(?:{words})\b", code) is not None


def _replaced(source: TestSource) -> set[str]:
    """Return the attributes and mappings that the tests assign, as "module.attribute"."""
    found: set[str] = set()
    for node in source.nodes:
        stored = node.value if isinstance(node, ast.Subscript) else node
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            found.add(ast.unparse(stored))
    return found


def _opens_to_write(source: TestSource) -> bool:
    calls = (n for n in source.nodes if isinstance(n, ast.Call))
    opened = (n for n in calls if getattr(n.func, "attr", getattr(n.func, "id", None)) == "open")
    given = ([*n.args[:2], *(k.value for k in n.keywords)] for n in opened)
    modes = (e.value for each in given for e in each if isinstance(e, ast.Constant))
    return any(isinstance(mode, str) and re.fullmatch(r"[rbt]?[wax][bt+]*", mode) for mode in modes)
