"""The files in which calibrations are kept: one JSON object a model, written by `secondpass calibrate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from secondpass.service.common.errors import BadSettings
from secondpass.strategies.api.calibration import Calibration

SUFFIX = ".calibration.json"


def load_calibrations(path: Path | None) -> dict[str, Calibration]:
    """The calibrations by model, from one file or from all *.calibration.json of a folder.

    Raises BadSettings, which names the file and the field, also for a model that two files are about, and for a folder
    that has none.
    """
    found: dict[str, Calibration] = {}
    origin: dict[str, Path] = {}
    for file in [] if path is None else _files(path):
        calibration = load_calibration(file)
        first = origin.setdefault(calibration.model, file)
        if first != file:
            raise BadSettings(f"calibrations: {first} and {file} are both of {calibration.model!r}")
        found[calibration.model] = calibration
    return found


def load_calibration(path: Path) -> Calibration:
    """The calibration in a file. Raises BadSettings."""
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadSettings(f"calibrations {path}: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        said = f"{where}: {problem['msg']}" if where else problem["msg"]
        raise BadSettings(f"calibrations {path}: {said}") from error


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file; a reader sees the old one or the whole new one. Raises OSError."""
    half = path.with_name(path.name + ".part")
    half.write_text(calibration.model_dump_json(indent=2, exclude_none=True) + "\n", "utf-8")
    half.replace(path)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise BadSettings(f"calibrations {path}: there is no *{SUFFIX} in this folder")
    yield from files
