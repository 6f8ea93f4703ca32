"""Runs: execution of a strategy for one request, and the verbs strategies are written in."""
