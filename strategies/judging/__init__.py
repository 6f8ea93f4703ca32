"""Judging: what a judge is asked, and how its replies become grades, verdicts and reviews."""
