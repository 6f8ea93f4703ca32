"""Execution and serving of strategies: engines, budgets, events and the HTTP service."""
