"""The cache folder of the development tools, for downloads and logs."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """Return $TOOLS_CACHE, or .cache in the checkout."""
    return Path(os.environ.get("TOOLS_CACHE") or CHECKOUT / ".cache").absolute()


def log_folder() -> Path:
    """Return the folder for the logs of started servers."""
    return cache_folder() / "logs"
