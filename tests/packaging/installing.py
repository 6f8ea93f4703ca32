"""Building and installing packages without a network and without touching this environment."""

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
"""What a build reads."""

PARTS = ("service", "strategies")
ROOTS = {"secondpass": "secondpass", **{part: f"secondpass.{part}" for part in PARTS}}
"""The folders at the top of the checkout that are packaged, and the package that each becomes."""

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index"]


def copied(into: Path, names: tuple[str, ...] = BUILT) -> Path:
    """A copy of these files and folders of the checkout in `into`: a build leaves files beside its sources."""
    for name in names:
        source = CHECKOUT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, into / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, into / name)
    return into


def without_links(source: Path, *, as_text: bool) -> Path:
    """The copy with its links deleted, or replaced by files that hold their targets, as git and unzip may write them."""
    for link in [path for path in (source / "secondpass").iterdir() if path.is_symlink()]:
        target = link.readlink()
        link.unlink()
        if as_text:
            link.write_text(str(target))
    return source


def pip(*arguments: str | Path) -> None:
    """Run pip on this environment. Raises CalledProcessError."""
    subprocess.run([*PIP, *arguments], check=True)


def environment(folder: Path, package: Path) -> Path:
    """A fresh virtual environment with `package` installed, on top of this one's packages. Its folder of commands."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # --ignore-installed: pip would otherwise uninstall what the packages below already hold.
    pip("--python", folder / "bin/python", "install", *OFFLINE, "--ignore-installed", package)
    return folder / "bin"
