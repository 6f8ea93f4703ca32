"""Inference-time self-correction for language models, served over HTTP.

The code is in the top-level folders `service` and `strategies` and imports as `secondpass.service` and
`secondpass.strategies`. Wheels and editable installs map these names to the folders. In a checkout that is not
installed, the symbolic links in this folder do.
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
    """The last meta path finder, which reports a missing symbolic link."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Raise ImportError for a package that only a symbolic link provides."""
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
