"""Output paths, and the facts about a measurement that records contain.

Records contain enough to repeat the measurement, and no paths of this machine.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.lab.evaluation.records import SUFFIX
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.values import Sampling


def output_file(option: str, name: str) -> Path:
    """Return the path of an output file. Raises Failure if it is a folder or its folder is missing."""
    path = Path(name)
    if path.is_dir() or not path.parent.is_dir():
        raise Failure(f"{option}: {path} must be a file in an existing folder", REFUSED)
    return path


def records_file(option: str, name: str) -> Path:
    """Return the path of a records file. Raises Failure if it has another suffix or cannot exist."""
    path = output_file(option, name)
    if not path.name.endswith(SUFFIX):
        problem = f"must end in {SUFFIX}, the only files that `secondpass results` reads"
        raise Failure(f"{option}: {path} {problem}", REFUSED)
    return path


def model_name(name: str) -> str:
    """Return the model's name, reduced to the last component if it is a path."""
    return Path(name).name if name.startswith(("/", "./", "../", "~")) else name


def describe_calibration(calibration: Calibration | None) -> str:
    """Return AUROC, drafts, date and digest of a calibration; empty without one."""
    if calibration is None:
        return ""
    whole = hashlib.sha256(calibration.model_dump_json(exclude_defaults=True).encode())
    drawn = f"{calibration.n} drafts, {calibration.drawn}"
    return f"judge's AUROC {calibration.auroc:.3f}, {drawn}, {whole.hexdigest()[:8]}"


def describe_sampling(sampling: Sampling) -> str:
    """Return the sampling parameters that are set, except the seed."""
    values = sampling.model_dump(exclude_none=True, exclude={"seed"})
    return " ".join(f"{name}={value}" for name, value in values.items())
