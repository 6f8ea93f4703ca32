"""Telemetry: Prometheus metrics, fed from the events of runs."""
