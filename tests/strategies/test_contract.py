"""Every registered strategy keeps the contract that ships in `secondpass.testing`."""

from secondpass.testing.suite import *  # noqa: F403
