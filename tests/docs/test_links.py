"""Documentation links resolve, and docs/operations/kubernetes.md has the values of the manifests."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "examples", "k8s")
PAGES = [*ROOT.glob("*.md"), *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))]
KUBERNETES = ROOT / "docs/operations/kubernetes.md"

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_HEADING = re.compile(r"(?m)^#+ (.+)$")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub derives them from headings."""
    headings = _HEADING.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_resolve(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def row(value: str) -> str:
    """Return the first table row of a value on the Kubernetes page."""
    found = re.search(rf"(?m)^\| {re.escape(value)} \|.*$", KUBERNETES.read_text())
    assert found
    return found[0]


def manifest(path: str) -> Any:
    return yaml.safe_load((ROOT / "k8s" / path).read_text())


def test_kubernetes_page_has_the_defaults_of_the_manifests() -> None:
    pod = manifest("base/deployment.yaml")["spec"]["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    requests, limit = resources["requests"], resources["limits"]["memory"]
    assert f"{requests['cpu']}, {requests['memory']}, limit {limit}" in row(
        "memory and CPU of a pod"
    )
    engine = manifest("components/gpu-engine/deployment.yaml")["spec"]["template"]["spec"]
    vllm = engine["containers"][0]
    requests, limit = vllm["resources"]["requests"], vllm["resources"]["limits"]["memory"]
    sized = f"{requests['cpu']} CPUs, {requests['memory']}, limit {limit}"
    assert sized in row("memory and CPU of an engine")
    assert vllm["image"] in row("images, registry")
    name, tag = pod["containers"][0]["image"].split(":")
    assert f"`{name}`" in row("images, registry")
    assert f"`:{tag}`" in row("images, registry")
    for overlay in ("split", "prod"):
        assert f"`{manifest(f'overlays/{overlay}/kustomization.yaml')['namespace']}`" in row(
            "namespace"
        )
    assert vllm["args"][0] in row("model")
    grace = pod["terminationGracePeriodSeconds"]
    for overlay in ("split", "prod"):
        settings = tomllib.loads((ROOT / f"k8s/overlays/{overlay}/secondpass.toml").read_text())
        assert f"{settings['max_deadline_ms']}; {grace}" in row("longest run, grace")
        assert f"| {settings['max_concurrent_calls']} |" in row("`max_concurrent_calls`")
        assert str(settings.get("max_runs", 1024)) in row("`max_runs`")
    scaled = manifest("components/keda/scaledobject.yaml")["spec"]
    counts = f"KEDA {scaled['minReplicaCount']} to {scaled['maxReplicaCount']}"
    assert counts in row("pods, or autoscaler")
    open_requests, waiting = (each["metadata"]["threshold"] for each in scaled["triggers"])
    thresholds = f"{open_requests} open requests, {waiting} waiting calls"
    assert thresholds in row("thresholds of KEDA")
    route = manifest("components/gateway/httproute.yaml")["spec"]
    assert all(name in row("gateway, host name") for name in route["hostnames"])


def test_kubernetes_page_quotes_the_example_overlay() -> None:
    block = re.search(r"(?m)(?:^    .*\n)+", KUBERNETES.read_text().split("## Your overlay")[1])
    assert block
    shown = yaml.safe_load(block[0])
    example = manifest("overlays/example/kustomization.yaml")
    for key in ("namespace", "resources", "transformers", "configMapGenerator"):
        assert shown[key] == example[key]
    assert all(image in example["images"] for image in shown["images"])
    for patch in shown["patches"]:
        (complete,) = [each for each in example["patches"] if each["target"] == patch["target"]]
        operations = yaml.safe_load(complete["patch"])
        assert all(operation in operations for operation in yaml.safe_load(patch["patch"]))
