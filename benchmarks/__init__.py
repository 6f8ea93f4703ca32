"""Benchmarks of the service. Each prints a table. Not part of the distribution."""
