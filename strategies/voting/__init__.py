"""Voting: count answers, weigh them, and decide when to stop drawing."""
