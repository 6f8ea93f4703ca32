"""Makes a language model check and correct its own work at inference time, behind one HTTP service.

The code is in the folders `service` and `strategies` at the top of the checkout, and imports as `secondpass.service`
and `secondpass.strategies`. Wheels and editable installs map these names to the folders; in a checkout that is not
installed, the symbolic links beside this file do.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

__all__ = ["__version__"]

__version__ = "0.1.0"

_LINKS = ("service", "strategies")


class _MissingLink(MetaPathFinder):
    """The last finder: reports a linked package that no other finder found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Raise ImportError for a package that only a link provides."""
        parent, _, name = fullname.rpartition(".")
        if parent == __name__ and name in _LINKS:
            raise ImportError(
                f"{fullname} was not found: this checkout lacks the symbolic link secondpass/{name}. "
                "Install the checkout (pip install -e .), or restore the links "
                "(git config core.symlinks true && git checkout -- secondpass)",
                name=fullname,
            )


if not all(Path(__file__).with_name(link).is_dir() for link in _LINKS):
    sys.meta_path.append(_MissingLink())
