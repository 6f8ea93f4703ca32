"""Strategies, prompts, tasks and votes. Pure: depends only on the standard library and pydantic.

Importing this package registers its strategies; a new strategy needs an import line here. Other distributions register
strategies through an entry point, see `api.entry_points`.
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
