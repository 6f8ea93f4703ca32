"""Entry point of `python -m secondpass.service`, installed as `secondpass`."""

import sys

from secondpass.service.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
