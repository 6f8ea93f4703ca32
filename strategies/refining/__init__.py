"""Refining: versions of an answer, their critics, revisions and retries."""
