"""Custom resources have only known fields: they are compiled as TypeScript literals.

The validators of @kubernetes-models accept unknown fields. The compiler rejects them in a literal.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.k8s.manifests import Object, of_kind, render_overlay
from tests.k8s.tools import node, npm_modules, run

pytestmark = pytest.mark.compat

TYPES = {
    "HTTPRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
    "PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
    "ServiceMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor",
}
OPTIONS = {
    "strict": True,
    "noEmit": True,
    "module": "nodenext",
    "target": "es2022",
    # The declarations of the packages are not under test.
    "skipLibCheck": True,
    "types": [],
}


def _compile(objects: Sequence[Object], scratch: Path) -> None:
    """Compile each object as a literal of its type. Raises AssertionError with the messages."""
    (scratch / "node_modules").symlink_to(npm_modules())
    (scratch / "package.json").write_text(json.dumps({"type": "module"}))
    (scratch / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": OPTIONS, "include": ["*.ts"]})
    )
    for number, one in enumerate(objects):
        kind = one["kind"]
        literal = json.dumps(one, indent=2)
        (scratch / f"{number}-{kind}.ts").write_text(
            f'import type {{ I{kind} }} from "{TYPES[kind]}";\n'
            f"export const rendered: I{kind} = {literal};\n"
        )
    run(node(), npm_modules() / "typescript/bin/tsc", "--project", scratch, folder=scratch)


def _custom() -> list[Object]:
    return of_kind([*render_overlay("prod"), *render_overlay("example")], *TYPES)


def test_custom_resources_have_only_fields_of_their_types(tmp_path: Path) -> None:
    objects = _custom()
    assert {one["kind"] for one in objects} == set(TYPES)
    _compile(objects, tmp_path)


def test_every_object_of_a_custom_group_is_compiled() -> None:
    groups = {one["apiVersion"].split("/")[0] for one in _custom()}
    objects = [
        one for one in render_overlay("example") if one["apiVersion"].split("/")[0] in groups
    ]
    assert {one["kind"] for one in objects} == set(TYPES)


def test_misspelt_fields_are_reported(tmp_path: Path) -> None:
    objects = _custom()
    for one in objects:
        one["spec"]["misspelt"] = "value"
    with pytest.raises(AssertionError) as failure:
        _compile(objects, tmp_path)
    for number, one in enumerate(objects):
        assert f"{number}-{one['kind']}.ts" in str(failure.value)


def test_misspelt_nested_field_is_reported(tmp_path: Path) -> None:
    objects = [one for one in _custom() if one["kind"] == "HTTPRoute"]
    objects[0]["spec"]["rules"][0]["timeouts"]["requests"] = "0s"
    with pytest.raises(AssertionError, match="requests"):
        _compile(objects, tmp_path)
