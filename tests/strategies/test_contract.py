"""Contract tests of every registered strategy, from `secondpass.testing`."""

from secondpass.testing.suite import *  # noqa: F403
