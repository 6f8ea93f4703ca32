"""All rules that an overlay must satisfy. Importing a module registers its rules."""

from tests.k8s.policy import access, isolation, lifecycle, network, pods, services
from tests.k8s.policy.registry import RULES, Rule

__all__ = ["RULES", "Rule", "access", "isolation", "lifecycle", "network", "pods", "services"]
