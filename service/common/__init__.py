"""Shared service code: events, errors, limits, concurrency and server-sent events."""
