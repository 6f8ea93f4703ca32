"""Equivalence of answers, decided in worker processes that can be killed."""
