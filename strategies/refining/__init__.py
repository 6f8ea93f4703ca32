"""Refining: versions of an answer, critics, revisions and retries."""
