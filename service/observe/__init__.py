"""Telemetry: Prometheus metrics, updated from run events."""
