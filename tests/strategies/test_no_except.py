"""Strategies do not catch errors of engines, verdicts, capabilities or budgets; the run handles them."""

import ast
import inspect
from pathlib import Path

import pytest

import secondpass.strategies
from secondpass.strategies.api import errors

FOLDER = Path(secondpass.strategies.__file__).parent
# `api` contains the registry and the import of plug-ins, which are not strategies.
MODULES = sorted(
    path for path in FOLDER.rglob("*.py") if "api" not in path.relative_to(FOLDER).parts
)
ERRORS = {
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.SecondpassError)
}
FORBIDDEN = {*ERRORS, "ITEM_ERRORS", "Exception", "BaseException"}


def caught(source: str) -> set[str]:
    """Return the names in `except` clauses and `suppress` calls of a module; "bare" for a bare except."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                found.add("bare")
                continue
            inside: list[ast.AST] = [node.type]
        elif isinstance(node, ast.Call) and "suppress" in ast.unparse(node.func):
            inside = list(node.args)
        else:
            continue
        for each in inside:
            found |= {n.id for n in ast.walk(each) if isinstance(n, ast.Name)}
            found |= {n.attr for n in ast.walk(each) if isinstance(n, ast.Attribute)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_no_strategy_catches_an_error_of_the_run(path: Path) -> None:
    assert caught(path.read_text()) & {*FORBIDDEN, "bare"} == set()


@pytest.mark.parametrize(
    "source",
    [
        "try: pass\nexcept errors.EngineError: pass",
        "try: pass\nexcept (ValueError, BudgetExhausted): pass",
        "try: pass\nexcept (*ITEM_ERRORS,): pass",
        "try: pass\nexcept: pass",
        "with suppress(VerdictUnreadable): pass",
    ],
)
def test_every_way_of_catching_errors_is_found(source: str) -> None:
    assert caught(source) & {*FORBIDDEN, "bare"}
