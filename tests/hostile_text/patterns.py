"""All regular expressions of the code, with the methods by which it applies them."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import secondpass.service
import secondpass.strategies
from tests.hostile_text.timing import Use

_SEARCHING = ("search", "match", "fullmatch")
_SCANNING = ("finditer", "findall", "sub", "subn", "split")
METHODS = (*_SEARCHING, *_SCANNING)
_MAX_DEPTH = 4


@dataclass
class FoundPattern:
    """A compiled pattern, where it is defined, and the methods with which it is used."""

    pattern: re.Pattern[Any]
    names: list[str] = field(default_factory=list)
    methods: set[str] = field(default_factory=set)

    def uses(self) -> Iterator[tuple[str, Use]]:
        """Yield each way in which the pattern is applied to a text."""
        wanted = self.methods or set(METHODS)
        is_binary = isinstance(self.pattern.pattern, bytes)

        def text_of(text: str) -> Any:
            return text.encode() if is_binary else text

        for name in _SEARCHING:
            if name in wanted:
                yield name, partial(_applied, getattr(self.pattern, name), text_of)
        if wanted & set(_SCANNING):
            yield "finditer", lambda text: sum(1 for _ in self.pattern.finditer(text_of(text)))


def _applied(method: Callable[[Any], object], text_of: Callable[[str], Any], text: str) -> object:
    return method(text_of(text))


def modules() -> Iterator[ModuleType]:
    """Import and yield the modules of the service and of the strategies that import `re`.

    Other modules have no patterns of their own. Some of them need an engine, whose import takes long.
    """
    for package in (secondpass.service, secondpass.strategies):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            spec = importlib.util.find_spec(info.name)
            assert spec is not None
            assert spec.origin is not None
            source = Path(spec.origin).read_text("utf-8")
            if re.search(r"^\s*(?:import|from) re\b", source, re.MULTILINE):
                yield importlib.import_module(info.name)


def patterns() -> list[FoundPattern]:
    """Return the patterns that modules and classes contain, also within tables and data classes."""
    found: dict[tuple[Any, int], FoundPattern] = {}
    for module in modules():
        used = _used_methods(module)
        for name, value in vars(module).items():
            for pattern in _patterns_in(value, module.__name__):
                each = found.setdefault((pattern.pattern, pattern.flags), FoundPattern(pattern))
                each.names.append(f"{module.__name__}.{name}")
                each.methods |= used.get(name, set())
    return list(found.values())


def _patterns_in(value: Any, module: str, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif depth < _MAX_DEPTH:
        for part in _parts(value, module):
            yield from _patterns_in(part, module, depth + 1)


def _parts(value: Any, module: str) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, type):
        own = value.__module__ == module
        return [each for name, each in vars(value).items() if own and not name.startswith("__")]
    if hasattr(value, "__dataclass_fields__"):
        return [getattr(value, name, None) for name in value.__dataclass_fields__]
    return []


def _used_methods(module: ModuleType) -> dict[str, set[str]]:
    """Return the methods of patterns that a module calls or passes on, by the name of the pattern.

    A pattern that is used in any other way is missing: all methods are tried with it.
    """
    tree = ast.parse(inspect.getsource(module))
    methods: dict[str, set[str]] = {}
    plain: set[str] = set()
    owners = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            methods.setdefault(node.value.id, set()).add(node.attr)
        elif (
            isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in owners
        ):
            plain.add(node.id)
    return {
        name: attributes
        for name, attributes in methods.items()
        if name not in plain and attributes <= {*METHODS, "pattern"}
    }


def inline_patterns() -> tuple[list[FoundPattern], dict[str, int]]:
    """Return the literal patterns within functions, and the number of other ones by module."""
    literal: list[FoundPattern] = []
    built: Counter[str] = Counter()
    for module in modules():
        tree = ast.parse(inspect.getsource(module))
        for call in _calls_in_functions(tree):
            pattern = call.args[0]
            if isinstance(pattern, ast.Constant):
                found = FoundPattern(re.compile(pattern.value), [f"{module.__name__}.inline"])
                literal.append(found)
            else:
                built[module.__name__] += 1
    return literal, dict(built)


def _calls_in_functions(tree: ast.Module) -> list[ast.Call]:
    """Return the calls of `re.compile`, `re.search` and so on within functions."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = {
        (call.lineno, call.col_offset): call
        for function in functions
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "re"
        and call.func.attr in (*METHODS, "compile")
    }
    return list(found.values())
