"""Builds and installs packages offline, without changes to this environment."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
BUILT = (
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "secondpass",
    "service",
    "strategies",
)
"""Files and folders that a build reads."""

PARTS = ("service", "strategies")
ROOTS = {"secondpass": "secondpass", **{part: f"secondpass.{part}" for part in PARTS}}
"""Packaged top-level folders of the checkout, and their package names."""

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index"]


def copied(into: Path, names: tuple[str, ...] = BUILT) -> Path:
    """Copy files and folders of the checkout to `into`, because a build writes files next to its sources."""
    for name in names:
        source = CHECKOUT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, into / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, into / name)
    return into


def without_links(source: Path, *, as_text: bool) -> Path:
    """Delete the links of a copy, or replace them by text files as git and unzip may do."""
    for link in [path for path in (source / "secondpass").iterdir() if path.is_symlink()]:
        target = link.readlink()
        link.unlink()
        if as_text:
            link.write_text(str(target))
    return source


def pip(*arguments: str | Path) -> None:
    """Run pip of this environment. Raises CalledProcessError."""
    subprocess.run([*PIP, *arguments], check=True)


def environment(folder: Path, package: Path) -> Path:
    """Create a virtual environment with `package` and the packages of this one; return its bin folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # --ignore-installed: otherwise pip would uninstall the version in the underlying environment.
    pip("--python", folder / "bin/python", "install", *OFFLINE, "--ignore-installed", package)
    return folder / "bin"
