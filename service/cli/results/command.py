"""`secondpass results`: write what was measured into the documents, from the files that hold it."""

from __future__ import annotations

from pathlib import Path

from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.cli.results.options import EPILOG, ResultsOptions, add_options
from secondpass.service.lab.reports.plots import NoMatplotlib
from secondpass.service.lab.reports.results import write_results
from secondpass.strategies.api.errors import SecondpassError


def results(options: ResultsOptions) -> None:
    """Write the documents and say which files were written."""
    folders = [Path(folder) for folder in (*options.data, *options.pools)]
    for folder in folders:
        if not folder.is_dir():
            raise Failure(f"--data, --pools: {folder} is no folder", REFUSED)
    readme = Path(options.readme) if options.readme else None
    if readme and not readme.exists():
        raise Failure(f"--readme: {readme} is not there", REFUSED)
    try:
        for path in write_results(folders, Path(options.out), readme):
            print(path)  # noqa: T201
    except (SecondpassError, NoMatplotlib, OSError) as error:
        raise Failure(str(error), REFUSED) from error


COMMAND = Command(
    name="results",
    summary="write what was measured into documents",
    epilog=EPILOG,
    options=ResultsOptions,
    add=add_options,
    run=results,
)
