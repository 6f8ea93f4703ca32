"""Evaluation of strategies: scorers, run records, and metrics over plain records without an engine."""
