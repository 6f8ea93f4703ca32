"""Reasons why an engine is not ready that do not depend on its kind."""

from __future__ import annotations

DEFECT = "the health check failed by a defect; the log has the details"
