"""Calls to engines: admission, retries, and the budget that each call leases from."""
