"""Image names: one for each target of the Dockerfile, tagged with the version and replaceable."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import secondpass
from tests.k8s.manifests import (
    K8S,
    OVERLAYS,
    Object,
    containers,
    of_kind,
    render_overlay,
    render_own_overlay,
)
from tests.k8s.tools import ROOT

TARGETS = {"service", "cpu", "vllm", "router"}
FILES = [
    ROOT / "Dockerfile",
    ROOT / "README.md",
    *(ROOT / "docs").rglob("*.md"),
    *(path for path in K8S.rglob("*") if path.suffix in (".md", ".yaml", ".toml")),
]
OWN = "registry.example.com/team/"

# Default image of each container, by overlay.
IMAGES = {
    "all-in-one": {"secondpass/secondpass": "secondpass-vllm"},
    "cpu-demo": {"secondpass/secondpass": "secondpass-cpu"},
    "prod": {
        "secondpass/secondpass": "secondpass-service",
        "vllm-router/router": "secondpass-router",
        "vllm/vllm": "vllm/vllm-openai",
    },
}
IMAGES["split"] = IMAGES["prod"]
IMAGES["example"] = {
    "secondpass/secondpass": "registry.example.com/llm/secondpass-service",
    "vllm-router/router": "registry.example.com/llm/secondpass-router",
    "vllm/vllm": "registry.example.com/mirror/vllm-openai",
}

_OWN_IMAGE = re.compile(r"\bsecondpass-(service|cpu|vllm|router):([\w.-]*\w)")
# A single repository with the target as the tag.
_SHARED_NAME = re.compile(r"\bsecondpass:(?:service|cpu|vllm|router)\b(?!/)")


def _images(objects: list[Object]) -> Iterator[tuple[str, str]]:
    for workload in of_kind(objects, "Deployment"):
        for name, container in containers(workload):
            yield name, container["image"]


def test_project_images_are_tagged_with_the_version() -> None:
    found = {match for path in FILES for match in _OWN_IMAGE.findall(path.read_text())}
    assert found == {(target, secondpass.__version__) for target in TARGETS}


def test_targets_have_separate_image_names() -> None:
    assert [path for path in FILES if _SHARED_NAME.search(path.read_text())] == []


def test_dockerfile_documents_the_build_of_every_target() -> None:
    built = re.findall(
        r"docker build --target (\w+) -t secondpass-(\w+):", (ROOT / "Dockerfile").read_text()
    )
    assert sorted(built) == sorted((target, target) for target in TARGETS)


@pytest.mark.compat
@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_lists_its_images(name: str) -> None:
    images = dict(_images(render_overlay(name)))
    used = {container: image.partition(":")[0] for container, image in images.items()}
    assert used == IMAGES[name]
    path = K8S / "overlays" / name / "kustomization.yaml"
    listed = [one["newName"] for one in yaml.safe_load(path.read_text())["images"]]
    assert sorted(listed) == sorted(used.values())
    project = [image for image in images.values() if "secondpass" in image.rpartition("/")[2]]
    assert {image.partition(":")[2] for image in project} == {secondpass.__version__}


@pytest.mark.compat
@pytest.mark.parametrize("name", OVERLAYS)
def test_operator_can_replace_each_image(name: str, tmp_path: Path) -> None:
    expected = {
        container: (image, f"{OWN}{image.rpartition('/')[2]}:1.2.{number}")
        for number, (container, image) in enumerate(IMAGES[name].items())
    }
    replaced = []
    for image, replacement in expected.values():
        new_name, _, tag = replacement.rpartition(":")
        replaced.append({"name": image, "newName": new_name, "newTag": tag})
    objects = render_own_overlay(f"overlays/{name}", tmp_path, images=replaced)
    assert dict(_images(objects)) == {
        key: replacement for key, (_, replacement) in expected.items()
    }
