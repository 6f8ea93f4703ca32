"""Calibration files: one JSON object per model, written by `secondpass calibrate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from secondpass.service.common import validation
from secondpass.service.common.errors import BadSettings
from secondpass.strategies.api.calibration import Calibration

SUFFIX = ".calibration.json"


def load_calibrations(path: Path | None) -> dict[str, Calibration]:
    """Load calibrations by model name, from one file or from all *.calibration.json of a folder.

    Raises:
        BadSettings: A file is invalid, two files calibrate the same model, or the folder contains no file. The message
            names the file and the field.
    """
    found: dict[str, Calibration] = {}
    origin: dict[str, Path] = {}
    for file in [] if path is None else _files(path):
        calibration = load_calibration(file)
        first = origin.setdefault(calibration.model, file)
        if first != file:
            raise BadSettings(
                f"calibrations: {first} and {file} both calibrate model {calibration.model!r}"
            )
        found[calibration.model] = calibration
    return found


def load_calibration(path: Path) -> Calibration:
    """Load the calibration of one file. Raises BadSettings."""
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadSettings(f"calibrations {path}: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        reason = validation.message_with_value(problem)
        message = f"{where}: {reason}" if where else reason
        raise BadSettings(f"calibrations {path}: {message}") from error


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file atomically: a reader sees the old or the complete new content. Raises OSError."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(calibration.model_dump_json(indent=2, exclude_none=True) + "\n", "utf-8")
    partial.replace(path)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise BadSettings(f"calibrations {path}: the folder contains no *{SUFFIX}")
    yield from files
