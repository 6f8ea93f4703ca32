"""The contract of every strategy as a pytest plug-in: `pip install 'secondpass[testing]'`.

A package with strategies of its own runs it by one test module::

    from secondpass.testing.suite import *

and these lines in its pyproject.toml::

    [tool.pytest.ini_options]
    addopts = "-p secondpass.testing --strategy NAME"

Without a test module: `pytest -p secondpass.testing --strategy NAME --pyargs secondpass.testing.suite`. `--strategy` may
be given several times; without it every registered strategy is tested, those of secondpass included. Tests of concurrency
run on asyncio and trio; the others on the event loops of the fixture `anyio_backend`, which are both by default.
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
    """Add `--strategy`."""
    group = parser.getgroup("secondpass")
    group.addoption(
        "--strategy",
        action="append",
        default=[],
        metavar="NAME",
        help="test this strategy by its contract; may be repeated (default: every registered one)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Report a strategy that cannot be tested before anything is collected. Raises pytest.UsageError."""
    if importlib.util.find_spec("trio") is None:
        raise pytest.UsageError("the contract needs trio: pip install 'secondpass[testing]'")
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
    """Collect no test of judges where no chosen strategy judges."""
    module = getattr(obj, "__module__", None)
    return [] if module == _JUDGES and not _names(collector.config, module) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of the contract, wherever it was imported, with every strategy that it is about."""
    module = metafunc.function.__module__
    if module in (_CONTRACT, _JUDGES):
        metafunc.parametrize("name", _names(metafunc.config, module))


def _names(config: pytest.Config, module: str) -> list[str]:
    names = sorted(set(config.getoption("--strategy") or STRATEGIES))
    if module == _JUDGES:
        return [name for name in names if STRATEGIES[name].signal in _JUDGING]
    return names
