"""Files that a sandbox shows: Python, the libraries of the system, and testing packages.

They are mounted read-only. Nothing else of the machine is visible, such as the application and its packages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from secondpass.service.sandbox.unavailable import SandboxUnavailable

SITE_PACKAGES = "/site-packages"
"""Folder of third-party packages in the sandbox of the tests."""

TEST_PACKAGES = ("pytest", "hypothesis")
"""Packages that tests may import if they are installed, with those that they require."""

_HIDDEN = ("site-packages", "dist-packages")
"""Folders of the standard library's folder that may contain the application."""

_ZONES = "/usr/share/zoneinfo"
_SEARCHED = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
"""Folders where the loader searches without /etc/ld.so.cache, which the sandbox lacks."""


def python() -> str:
    """Return the base interpreter, without the packages of this environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(Path(sys.base_prefix, "bin", version))


@cache
def system_mounts() -> tuple[str, ...]:
    """Return the options of bubblewrap that mount the running Python and the libraries that it loads.

    Raises:
        SandboxUnavailable: The libraries cannot be listed.
    """
    options: dict[str, tuple[str, ...]] = {}
    for folder in _standard_library():
        options[str(folder)] = ("--ro-bind", str(folder), str(folder))
        for hidden in (folder / name for name in _HIDDEN):
            if hidden.is_dir():
                empty = ("--perms", "0555", "--size", "4096", "--tmpfs", str(hidden))
                options[str(hidden)] = (*empty, "--remount-ro", str(hidden))
    options[python()] = ("--ro-bind", python(), python())
    for place, source in _by_folder(_libraries()).items():
        options[place] = ("--ro-bind", source, place)
    if Path(_ZONES).is_dir():
        options[_ZONES] = ("--ro-bind", _ZONES, _ZONES)
    return (*_folders_above(options), *(word for each in options.values() for word in each))


def _standard_library() -> list[Path]:
    """Return the folders of the standard library: one, or two where compiled modules have their own."""
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    paths = (sysconfig.get_path(name, vars=base) for name in ("stdlib", "platstdlib"))
    return list(dict.fromkeys(Path(path) for path in paths if path and Path(path).is_dir()))


def _libraries() -> dict[str, str]:
    """Return the shared libraries of the interpreter and of its modules, by their place in the sandbox."""
    ldd = shutil.which("ldd")
    if ldd is None:
        raise SandboxUnavailable("ldd is not installed; run `apt-get install libc-bin`")
    modules = [str(path) for each in _standard_library() for path in each.glob("lib-dynload/*.so")]
    listed = subprocess.run(  # noqa: S603 - the interpreter's own files
        [ldd, python(), *modules], capture_output=True, text=True, check=False, timeout=60
    )
    found: dict[str, str] = {}
    for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed.stdout, re.MULTILINE):
        found |= dict.fromkeys(_places(path), path)
    if not found and listed.returncode:
        raise SandboxUnavailable(f"the libraries of Python cannot be listed: {listed.stderr[:200]}")
    # Loaded by the C library when a thread is cancelled, so no file names it as needed.
    for path in [str(Path(each).with_name("libgcc_s.so.1")) for each in found]:
        if Path(path).exists():
            found[path] = path
    return found


def _places(path: str) -> tuple[str, ...]:
    """Return where a library is mounted: at its own path, and where the loader finds it."""
    plain = os.path.normpath(path)
    if plain.startswith(tuple(f"{folder}/" for folder in _SEARCHED)):
        return (plain,)
    return (plain, *(f"{folder}/{Path(path).name}" for folder in ("/usr/lib", "/usr/lib64")))


def _by_folder(libraries: dict[str, str]) -> dict[str, str]:
    """Return the mounts, with one for each folder of the system's libraries.

    A mount takes about a millisecond. Such a folder has the name of an architecture. Other folders may contain applications.
    """
    found: dict[str, str] = {}
    for place, source in libraries.items():
        folder = Path(place).parent
        is_of_system = folder.parent in map(Path, _SEARCHED) and "-linux-" in folder.name
        found |= {str(folder): str(folder)} if is_of_system else {place: source}
    return found


def _folders_above(places: dict[str, tuple[str, ...]]) -> list[str]:
    """Return options that create the folders of mounts with access for all users."""
    mounted = [Path(place) for place in places]
    above = {folder for place in mounted for folder in place.parents if folder != Path("/")}
    inside = {
        folder for folder in above if any(one in (folder, *folder.parents) for one in mounted)
    }
    words = []
    for folder in sorted(above - inside):
        words += ["--perms", "0755", "--dir", str(folder)]
    return words


@cache
def site_packages() -> tuple[str, ...]:
    """Return the options that mount TEST_PACKAGES and the packages that they require at SITE_PACKAGES.

    Other installed packages are not mounted. Empty if none of TEST_PACKAGES is installed.
    """
    entries: dict[str, Path] = {}
    names, seen = [*TEST_PACKAGES], set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # required only on other systems
            continue
        entries |= _entries(found, name)
        names += [
            re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
            for requirement in found.requires or ()
            if "extra ==" not in requirement
        ]
    words = [("--ro-bind", str(path), f"{SITE_PACKAGES}/{name}") for name, path in entries.items()]
    folder = ("--perms", "0755", "--dir", SITE_PACKAGES)
    return (*folder, *(word for each in words for word in each)) if words else ()


def _entries(found: Distribution, name: str) -> dict[str, Path]:
    """Return the files and folders of a package at the top of its site-packages folder."""
    listed = {path.parts[0] for path in found.files or ()}
    if not listed:  # system packages have no list of files
        named = (found.read_text("top_level.txt") or name.replace("-", "_")).split()
        listed = {each for one in named for each in (one, f"{one}.py")}
    code = (each for each in listed if each not in ("..", "__pycache__"))
    paths = {each: Path(str(found.locate_file(each))) for each in code}
    return {
        name: path for name, path in paths.items() if path.exists() and path.suffix != ".dist-info"
    }
