"""The strategy keeps the contract of secondpass."""

from secondpass.testing.suite import *  # noqa: F403
