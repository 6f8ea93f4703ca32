"""Continuation: truncate a completion, insert text at a safe point, and extend it."""
