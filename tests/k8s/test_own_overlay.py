"""An operator's overlay: transformers copy its grace period and namespace wherever they are needed."""

from pathlib import Path
from typing import Any

import pytest

from tests.k8s.manifests import (
    OVERLAYS,
    Object,
    containers,
    env_values,
    of_kind,
    pod_spec,
    render_own_overlay,
)
from tests.k8s.policy.all_rules import RULES

pytestmark = pytest.mark.compat

GRACE = 1777  # seconds, above the longest solve of every overlay
COPIES = {"SECONDPASS_SHUTDOWN_GRACE_SECONDS", "SHUTDOWN_TIMEOUT"}
PATCH = {
    "target": {"kind": "Deployment", "name": "secondpass"},
    "patch": f"- {{op: replace, path: /spec/template/spec/terminationGracePeriodSeconds, value: {GRACE}}}",
}


def _own(name: str, scratch: Path, **fields: Any) -> list[Object]:
    """Objects of an overlay with its own grace period and namespace."""
    folder = f"overlays/{name}"
    return render_own_overlay(folder, scratch, namespace="team-a", patches=[PATCH], **fields)


def _numbers(objects: list[Object]) -> dict[str, int | str]:
    """All grace periods and their copies."""
    numbers: dict[str, int | str] = {}
    for workload in of_kind(objects, "Deployment"):
        numbers[workload["metadata"]["name"]] = pod_spec(workload)["terminationGracePeriodSeconds"]
        for name, container in containers(workload):
            for key in COPIES & set(env_values(container)):
                numbers[f"{name} {key}"] = env_values(container)[key]
    return numbers


@pytest.mark.parametrize("name", OVERLAYS)
def test_transformers_copy_the_grace_period(name: str, tmp_path: Path) -> None:
    objects = _own(name, tmp_path, transformers=["../k8s/transformers"])
    numbers = _numbers(objects)
    assert {str(number) for number in numbers.values()} == {str(GRACE)}
    assert len(numbers) == (2 if name in ("all-in-one", "cpu-demo") else 5)
    for rule, check in RULES.items():
        assert list(check(objects)) == [], rule


@pytest.mark.parametrize("name", OVERLAYS)
def test_policy_rejects_differing_grace_periods_without_transformers(
    name: str, tmp_path: Path
) -> None:
    objects = _own(name, tmp_path)
    assert list(RULES["grace_periods_are_consistent"](objects)) != []
