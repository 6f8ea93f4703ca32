"""Calls to engines: admission control, retries and budget leases."""
