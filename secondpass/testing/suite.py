"""All contract tests, for `from secondpass.testing.suite import *` in a test module."""

from secondpass.testing.contract import *  # noqa: F403
from secondpass.testing.contract_judges import *  # noqa: F403
