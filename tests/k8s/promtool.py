"""Prometheus' promtool, which `make promtool` provides, and the alert rules in the form that it reads."""

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
    """Run promtool in `folder`. Fails where there is none."""
    found = shutil.which("promtool") or (str(UNPACKED) if UNPACKED.exists() else None)
    assert found, "promtool is missing: run `make promtool`"
    return subprocess.run(
        [found, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def groups() -> list[dict[str, Any]]:
    """The groups of the PrometheusRule."""
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["spec"]["groups"]
    return found


def alerts() -> list[Rule]:
    """Every alert of every group."""
    return [rule for group in groups() for rule in group["rules"]]


def write_rules(folder: Path, changed: Mapping[str, str] | None = None) -> Path:
    """The rules as a plain rule file: what promtool reads is the PrometheusRule's spec.

    `changed` has other expressions, by the name of their alert.
    """
    given = groups()
    for group in given:
        for rule in group["rules"]:
            rule["expr"] = (changed or {}).get(rule["alert"], rule["expr"])
    path = folder / "rules.json"
    path.write_text(json.dumps({"groups": given}))
    return path
