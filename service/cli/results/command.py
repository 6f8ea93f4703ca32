"""`secondpass results`: write tables and plots of recorded measurements into documents."""

from __future__ import annotations

from pathlib import Path

from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.cli.common.output import print_text
from secondpass.service.cli.results.options import EPILOG, ResultsOptions, add_options
from secondpass.service.lab.reports.plots import NoMatplotlib
from secondpass.service.lab.reports.results import write_results
from secondpass.strategies.api.errors import SecondpassError


def results(options: ResultsOptions) -> None:
    """Write the documents and plots, and print their paths. Raises Failure."""
    folders = [Path(folder) for folder in (*options.data, *options.pools)]
    for folder in folders:
        if not folder.is_dir():
            raise Failure(f"--data, --pools: {folder} is not a folder", REFUSED)
    readme = Path(options.readme) if options.readme else None
    if readme and not readme.exists():
        raise Failure(f"--readme: {readme} does not exist", REFUSED)
    try:
        for path in write_results(folders, Path(options.out), readme):
            print_text(str(path))
    except (SecondpassError, NoMatplotlib, OSError) as error:
        raise Failure(str(error), REFUSED) from error


COMMAND = Command(
    name="results",
    summary="write tables and plots of measurements into documents",
    epilog=EPILOG,
    options=ResultsOptions,
    add=add_options,
    run=results,
)
