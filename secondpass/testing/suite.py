"""Every test of the contract, to be imported into a test module: `from secondpass.testing.suite import *`."""

from secondpass.testing.contract import *  # noqa: F403
from secondpass.testing.contract_judges import *  # noqa: F403
