"""Contract tests for strategies, as a pytest plug-in: `pip install 'secondpass[testing]'`.

A package that defines strategies runs the tests with one test module::

    from secondpass.testing.suite import *

and these lines in its pyproject.toml::

    [tool.pytest.ini_options]
    addopts = "-p secondpass.testing --strategy NAME"

Without a test module, run `pytest -p secondpass.testing --strategy NAME --pyargs secondpass.testing.suite`. `--strategy`
may be repeated. Without it, every registered strategy is tested, including those of secondpass. Concurrency tests run on
asyncio and trio. All other tests run on the backends of the fixture `anyio_backend`: both by default.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import pytest

from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.entry_points import StrategyNotLoaded

_CONTRACT = f"{__name__}.contract"
_JUDGES = f"{__name__}.contract_judges"
_JUDGING = ("self-score", "critique", "reward")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--strategy`."""
    group = parser.getgroup("secondpass")
    group.addoption(
        "--strategy",
        action="append",
        default=[],
        metavar="NAME",
        help="strategy to test; may be repeated (default: every registered strategy)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Raise pytest.UsageError before collection if trio is missing or a strategy cannot be loaded."""
    if importlib.util.find_spec("trio") is None:
        raise pytest.UsageError("the contract tests need trio: pip install 'secondpass[testing]'")
    try:
        registered = list(STRATEGIES)
    except StrategyNotLoaded as error:
        raise pytest.UsageError(str(error)) from error
    for name in config.getoption("--strategy"):
        if name not in registered:
            listed = ", ".join(registered)
            raise pytest.UsageError(f"--strategy: {name!r} is not registered; registered: {listed}")


def pytest_pycollect_makeitem(
    collector: pytest.Collector, obj: object
) -> Sequence[pytest.Item] | None:
    """Skip the tests for judges if no selected strategy judges."""
    module = getattr(obj, "__module__", None)
    return [] if module == _JUDGES and not _names(collector.config, module) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize each contract test with the strategies that it applies to."""
    module = metafunc.function.__module__
    if module in (_CONTRACT, _JUDGES):
        metafunc.parametrize("name", _names(metafunc.config, module))


def _names(config: pytest.Config, module: str) -> list[str]:
    names = sorted(set(config.getoption("--strategy") or STRATEGIES))
    if module == _JUDGES:
        return [name for name in names if STRATEGIES[name].signal in _JUDGING]
    return names
