"""The command line: `secondpass serve` and the commands beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from secondpass.service.cli import commands
from secondpass.service.server.serve import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["serve"]:
        return serve(given[1:])
    return commands.main(given)


if __name__ == "__main__":
    sys.exit(main())
