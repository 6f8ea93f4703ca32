"""An operator's overlay on top of ours: what it decides is copied to wherever it is needed."""

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

GRACE = 1777  # above the longest solve of every overlay
COPIES = {"SECONDPASS_SHUTDOWN_GRACE_SECONDS", "SHUTDOWN_TIMEOUT"}
PATCH = {
    "target": {"kind": "Deployment", "name": "secondpass"},
    "patch": f"- {{op: replace, path: /spec/template/spec/terminationGracePeriodSeconds, value: {GRACE}}}",
}


def _own(name: str, scratch: Path, **fields: Any) -> list[Object]:
    """An overlay with a grace period and a namespace of its own."""
    folder = f"overlays/{name}"
    return render_own_overlay(folder, scratch, namespace="team-a", patches=[PATCH], **fields)


def _numbers(objects: list[Object]) -> dict[str, int | str]:
    """Each grace period and each copy of it."""
    numbers: dict[str, int | str] = {}
    for workload in of_kind(objects, "Deployment"):
        numbers[workload["metadata"]["name"]] = pod_spec(workload)["terminationGracePeriodSeconds"]
        for name, container in containers(workload):
            for key in COPIES & set(env_values(container)):
                numbers[f"{name} {key}"] = env_values(container)[key]
    return numbers


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_number_for_shutdown_is_set_once_in_an_overlay_of_ones_own(
    name: str, tmp_path: Path
) -> None:
    objects = _own(name, tmp_path, transformers=["../k8s/transformers"])
    numbers = _numbers(objects)
    assert {str(number) for number in numbers.values()} == {str(GRACE)}
    assert len(numbers) == (2 if name in ("all-in-one", "cpu-demo") else 5)
    for rule, check in RULES.items():
        assert list(check(objects)) == [], rule


@pytest.mark.parametrize("name", OVERLAYS)
def test_without_the_transformers_the_copies_would_differ(name: str, tmp_path: Path) -> None:
    objects = _own(name, tmp_path)
    assert list(RULES["grace_periods_are_consistent"](objects)) != []
