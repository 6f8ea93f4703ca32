"""Runs: a strategy executed for one request, and the verbs that it is written in."""
