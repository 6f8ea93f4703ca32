"""Voting: count and weight ballots, and decide when to stop sampling."""
