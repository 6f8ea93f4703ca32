"""Judging: reply schemas, and the grades, verdicts and reviews read from replies of judges."""
