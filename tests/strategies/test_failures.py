"""Failures are the run's affair: no strategy, and none of what strategies share, handles an error of a call."""

import ast
from pathlib import Path

from secondpass.strategies.api import errors
from tests.cli.running import ROOT

STRATEGIES = ROOT / "strategies"
OWN = {name for name, value in vars(errors).items() if isinstance(value, type)}
CATCH_ALL = {"Exception", "BaseException", "SURVIVABLE"}


def handled(path: Path) -> set[str]:
    """The names in all `except` clauses of a module, with BaseException for one that names nothing."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            names = [*ast.walk(node.type)] if node.type else [ast.Name("BaseException")]
            found |= {each.id for each in names if isinstance(each, ast.Name)}
            found |= {each.attr for each in names if isinstance(each, ast.Attribute)}
    return found


def test_no_strategy_has_an_except_for_an_error_of_a_call() -> None:
    modules = [path for path in STRATEGIES.rglob("*.py") if path.parent.name != "api"]
    assert STRATEGIES / "self_refine.py" in modules
    assert {"SecondpassError", "EngineError", "BudgetExhausted", "VerdictUnreadable"} <= OWN
    assert {
        str(path): names for path in modules if (names := handled(path) & (OWN | CATCH_ALL))
    } == {}


def test_every_way_to_name_an_error_is_seen(tmp_path: Path) -> None:
    clauses = (" errors.RoleMissing", " (ValueError, EngineError)", " (*SURVIVABLE,)", "")
    module = tmp_path / "module.py"
    module.write_text("".join(f"try: pass\nexcept{each}: pass\n" for each in clauses))
    assert handled(module) >= {"RoleMissing", "EngineError", "SURVIVABLE", "BaseException"}
