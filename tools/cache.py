"""Where the tools keep what they fetch and log, so that a second start finds it."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """$TOOLS_CACHE, else .cache in the checkout."""
    return Path(os.environ.get("TOOLS_CACHE") or CHECKOUT / ".cache").absolute()


def log_folder() -> Path:
    """Where the output of started servers goes."""
    return cache_folder() / "logs"
