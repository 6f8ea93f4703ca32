"""Where records go, and what they say of where they come from: enough to make them again, and no folder of this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.lab.evaluation.records import SUFFIX
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.values import Sampling


def output_file(option: str, name: str) -> Path:
    """The path of a file that can be written. Raises Failure."""
    path = Path(name)
    if path.is_dir() or not path.parent.is_dir():
        raise Failure(f"{option}: {path} must be a file, in a folder that is there", REFUSED)
    return path


def records_file(option: str, name: str) -> Path:
    """Where records go. Raises Failure before anything is asked for them."""
    path = output_file(option, name)
    if not path.name.endswith(SUFFIX):
        says = f"must end in {SUFFIX}: `secondpass results` reads no other"
        raise Failure(f"{option}: {path} {says}", REFUSED)
    return path


def model_name(name: str) -> str:
    """A model's name; of one that is named by its folder, the folder's own name."""
    return Path(name).name if name.startswith(("/", "./", "../", "~")) else name


def calibration_words(calibration: Calibration | None) -> str:
    """Which calibration it is, for a person and by a digest; nothing for none."""
    if calibration is None:
        return ""
    whole = hashlib.sha256(calibration.model_dump_json(exclude_defaults=True).encode())
    drawn = f"{calibration.n} drafts, {calibration.drawn}"
    return f"judge's AUROC {calibration.auroc:.3f}, {drawn}, {whole.hexdigest()[:8]}"


def sampling_words(sampling: Sampling) -> str:
    """How drafts were drawn, less the seed."""
    given = sampling.model_dump(exclude_none=True, exclude={"seed"})
    return " ".join(f"{name}={value}" for name, value in given.items())
