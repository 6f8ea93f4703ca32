"""Prometheus' promtool, installed by `make promtool`, and the alert rules as a file it reads."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "k8s/components/monitoring/rules.yaml"
UNPACKED = ROOT / ".cache/deploy/prometheus/usr/bin/promtool"

Rule = dict[str, Any]


def promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool in `folder`. Raises AssertionError if it is not installed."""
    found = shutil.which("promtool") or (str(UNPACKED) if UNPACKED.exists() else None)
    assert found, "promtool is missing: run `make promtool`"
    return subprocess.run(
        [found, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def groups() -> list[dict[str, Any]]:
    """Rule groups of the PrometheusRule."""
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["spec"]["groups"]
    return found


def alerts() -> list[Rule]:
    """Alerts of all groups."""
    return [rule for group in groups() for rule in group["rules"]]


def write_rules(folder: Path, changed: Mapping[str, str] | None = None) -> Path:
    """Write the spec of the PrometheusRule as a plain rule file for promtool.

    `changed` maps alert names to replacement expressions.
    """
    given = groups()
    for group in given:
        for rule in group["rules"]:
            rule["expr"] = (changed or {}).get(rule["alert"], rule["expr"])
    path = folder / "rules.json"
    path.write_text(json.dumps({"groups": given}))
    return path
