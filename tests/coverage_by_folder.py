"""A pytest plug-in, `-p tests.coverage_by_folder`, that reports the coverage of each folder.

pytest-cov reports each module.
"""

from collections import Counter
from pathlib import Path

import coverage
import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the coverage that pytest-cov has saved, including appended runs."""
    measured = coverage.Coverage()
    measured.load()
    statements, missing = Counter[str](), Counter[str]()
    for name in measured.get_data().measured_files():
        _, lines, _, not_run, _ = measured.analysis2(name)
        folder = Path(name).resolve().parent.relative_to(Path.cwd()).as_posix()
        for total in (folder, "total"):
            statements[total] += len(lines)
            missing[total] += len(not_run)
    terminalreporter.section("coverage")
    for folder in [*sorted(statements.keys() - {"total"}), "total"]:
        share = 1 - missing[folder] / max(1, statements[folder])
        terminalreporter.line(f"{folder:30} {statements[folder]:6} statements {share:6.1%}")
