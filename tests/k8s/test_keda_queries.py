"""KEDA's queries count only the overlay's namespace, and operators can replace them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.k8s.manifests import Object, find_object, render_overlay, render_own_overlay
from tests.k8s.promtool import promtool

pytestmark = pytest.mark.compat

OPEN = ("secondpass_runs_in_flight", "secondpass_plain_requests_in_flight")
WAITING = ("secondpass_engine_calls_waiting",)
OWN = 'sum(requests{job="edge",namespace="edge"}) / 2'


def _triggers(objects: list[Object]) -> list[Object]:
    triggers: list[Object] = find_object(objects, "ScaledObject", "secondpass")["spec"]["triggers"]
    return triggers


def _own(
    scratch: Path, *operations: Object, transformers: Sequence[str] = ("../k8s/transformers",)
) -> list[Object]:
    """Triggers of an overlay on `prod` in the namespace team-a, with JSON patches of the ScaledObject."""
    target = {"kind": "ScaledObject", "name": "secondpass"}
    patches = [{"target": target, "patch": json.dumps(operations)}] if operations else []
    fields: Object = {"patches": patches, "transformers": [*transformers]}
    return _triggers(render_own_overlay("overlays/prod", scratch, namespace="team-a", **fields))


def _counts(query: str, value: float, scratch: Path) -> bool:
    """Return whether a query evaluates to `value`.

    In each of three namespaces there are two pods, whose gauges are 1 and 10.
    """
    series = [
        {"series": f'{metric}{{namespace="{space}",job="secondpass",pod="{pod}"}}', "values": pod}
        for metric in (*OPEN, *WAITING)
        for space in ("secondpass", "team-a", "team-b")
        for pod in ("1", "10")
    ]
    series.append({"series": 'requests{job="edge",namespace="edge"}', "values": "8"})
    expected = [{"expr": query, "eval_time": "0m", "exp_samples": [{"value": value}]}]
    test = {"input_series": series, "promql_expr_test": expected}
    (scratch / "test.json").write_text(json.dumps({"rule_files": [], "tests": [test]}))
    return promtool("test", "rules", "test.json", folder=scratch).returncode == 0


@pytest.mark.parametrize("namespace", ["secondpass", "team-a"])
def test_queries_count_only_the_overlay_namespace(namespace: str, tmp_path: Path) -> None:
    triggers = _triggers(render_overlay("prod")) if namespace == "secondpass" else _own(tmp_path)
    in_flight, queue = (each["metadata"]["query"] for each in triggers)
    assert f"#?{namespace}#?" in in_flight
    assert f"#?{namespace}#?" in queue
    assert _counts(in_flight, 22, tmp_path)
    assert _counts(queue, 11, tmp_path)
    assert not _counts(queue, 22, tmp_path)


def test_operator_query_keeps_its_meaning(tmp_path: Path) -> None:
    path = "/spec/triggers/0/metadata/query"
    in_flight, queue = _own(tmp_path, {"op": "replace", "path": path, "value": OWN})
    assert in_flight["metadata"]["query"] == f"{OWN}#?team-a"
    assert _counts(in_flight["metadata"]["query"], 4, tmp_path)
    assert "#?team-a#?" in queue["metadata"]["query"]


@pytest.mark.parametrize("place", [0, 1])
def test_operator_can_remove_a_trigger(place: int, tmp_path: Path) -> None:
    (left,) = _own(tmp_path, {"op": "remove", "path": f"/spec/triggers/{place}"})
    assert "#?team-a#?" in left["metadata"]["query"]


def test_operator_can_add_a_trigger_without_a_query(tmp_path: Path) -> None:
    cpu = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "80"}}
    *defaults, added = _own(tmp_path, {"op": "add", "path": "/spec/triggers/-", "value": cpu})
    assert added == cpu
    assert all("#?team-a#?" in each["metadata"]["query"] for each in defaults)


def test_shutdown_transformer_works_without_prometheus_triggers(
    tmp_path: Path,
) -> None:
    cpu = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "80"}}
    operation = {"op": "replace", "path": "/spec/triggers", "value": [cpu]}
    alone = ["../k8s/transformers/shutdown-grace"]
    assert _own(tmp_path, operation, transformers=alone) == [cpu]
