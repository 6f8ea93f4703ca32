"""What to ask, and in which order: strategies, prompts, tasks and votes. Pure: the stdlib and pydantic only.

Importing this package registers the strategies of this package; a new one adds its line here. Strategies of other distributions
join by an entry point, see `entry_points`.
"""

import secondpass.strategies.critic_retry
import secondpass.strategies.iterative_deepening
import secondpass.strategies.meta_rm
import secondpass.strategies.self_consistency
import secondpass.strategies.self_prm
import secondpass.strategies.self_refine
import secondpass.strategies.single
from secondpass.strategies.api.registry import STRATEGIES

__all__ = ["STRATEGIES"]
