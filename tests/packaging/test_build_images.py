"""The images `service` and `router`, built on Debian and run with the restrictions of a cluster."""

import json

import pytest

import secondpass
from tests.packaging.containers import BASE, Containers
from tests.packaging.replayed_image import STAGES

pytestmark = pytest.mark.slow

LOOK_AROUND = """
import json, os, pathlib
def is_writable(folder):
    try:
        (pathlib.Path(folder) / "file").write_text("")
    except OSError:
        return False
    return True
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
outside = ("proc", "sys", "dev")  # provided by the kernel, not part of the image
folders = [folder for folder, _, _ in os.walk("/") if folder.split("/")[1] not in outside]
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "capabilities": int(status["CapEff"], 16),
    "writable": [one for one in folders if is_writable(one)],
}))
"""
# Files that uid or gid 2000 or every user can write. The sticky bit of a folder protects its files.
OPEN_FILES = """
import json, os, stat
found = []
for folder, folders, files in os.walk("/"):
    folders[:] = [one for one in folders if os.path.join(folder, one) not in ("/proc", "/sys", "/dev")]
    for path in (os.path.join(folder, one) for one in [*folders, *files]):
        status = os.lstat(path)
        mode = 0 if stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX else status.st_mode
        if status.st_uid == 2000 or status.st_gid == 2000 or mode & stat.S_IWOTH:
            found.append(path)
print(json.dumps(found))
"""


@pytest.fixture(params=["service", "router"])
def target(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def image(target: str, request: pytest.FixtureRequest) -> str:
    name: str = request.getfixturevalue(f"{target}_image")
    return name


def test_image_has_the_user_commands_and_health_check_of_its_stage(
    containers: Containers, target: str, image: str
) -> None:
    seen = containers.inspect("image", image)
    config = seen["Config"]
    stage = STAGES[target]

    assert config["User"] == "2000:2000"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == stage.command("ENTRYPOINT")
    assert config["Cmd"] == stage.command("CMD")
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    assert seen["Healthcheck"]["Test"] == ["CMD", *stage.command("HEALTHCHECK")]
    assert seen["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_image_runs_as_an_unprivileged_user_without_writable_folders(
    containers: Containers, image: str
) -> None:
    # The service needs no memory-backed folders.
    ran = containers.run(image, "-c", LOOK_AROUND, entrypoint="python3", scratch=False)
    seen = json.loads(ran)

    assert seen == {"user": [2000, 2000], "capabilities": 0, "writable": []}


def test_no_file_is_writable_for_the_user(containers: Containers, image: str) -> None:
    """A pod without readOnlyRootFilesystem depends on it."""
    options = ["--rm", "--no-healthcheck", "--network", "none", "--entrypoint", "python3"]

    assert json.loads(containers.podman("run", *options, image, "-c", OPEN_FILES)) == []


def test_entry_points_start(containers: Containers, service_image: str, router_image: str) -> None:
    assert secondpass.__version__ in containers.run(service_image, "--version")
    assert "--service-discovery" in containers.run(router_image, "--help")


@pytest.mark.parametrize(
    ("target", "path", "name"),
    [
        ("service", "/opt/secondpass/share/secondpass.cdx.json", "secondpass"),
        ("router", "/opt/router/share/router.cdx.json", "vllm-router"),
    ],
)
def test_image_contains_its_bill_of_materials(
    containers: Containers, image: str, path: str, name: str
) -> None:
    bom = json.loads(containers.run(image, path, entrypoint="cat"))
    listed = [*bom["components"], bom["metadata"].get("component", {})]
    versions = {each.get("name"): each.get("version") for each in listed}

    assert bom["bomFormat"] == "CycloneDX"
    assert versions[name]
    assert versions["fastapi"]
    # The tools that wrote it must not be in the image.
    assert versions.keys().isdisjoint({"cyclonedx-bom", "pip", "setuptools"})


@pytest.mark.parametrize(("target", "megabytes"), [("service", 200), ("router", 160)])
def test_image_size_above_its_base_is_limited(
    containers: Containers, image: str, megabytes: int
) -> None:
    size, base = (containers.inspect("image", one)["Size"] for one in (image, BASE))

    assert size - base < megabytes * 1e6
