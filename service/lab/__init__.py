"""Measuring: pools of recorded completions, metrics over records, and reports. Nothing here serves a request."""
