"""Where records go, and what they say of where they come from: enough to make them again, and no folder of this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from secondpass.service.cli.failure import REFUSED, Failure
from secondpass.service.cli.options import Options
from secondpass.service.cli.values import param
from secondpass.service.lab.evaluation.records import SUFFIX
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.values import Sampling


def records_file(option: str, name: str) -> Path:
    """Where records go. Raises Failure before anything is asked for them."""
    path = Path(name)
    if path.is_dir() or not path.parent.is_dir():
        raise Failure(f"{option}: {path} must be a file, in a folder that is there", REFUSED)
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


def eval_command(options: Options) -> list[str]:
    """What decides of the answers, beside the server: of files the name alone."""
    words = ["secondpass", "eval"]
    for path in options.data:
        words += ["--data", Path(path).name]
    for name in options.strategies:
        words += ["--strategy", name]
    for key, value in options.param:
        words += ["--param", f"{key}={_typed(value)}"]
    return [*words, *_given(options)]


def replay_command(options: Options, shuffles: int, seed: int) -> list[str]:
    """What decides of the runs, beside the pool and the settings: of files the name alone."""
    words = ["secondpass", "pool", "replay"]
    if options.only:
        words += ["--only", options.only]
    if options.calibrations is not None:
        words += ["--calibrations", Path(options.calibrations).name]
    return [*words, "--shuffles", str(shuffles), "--seed", str(seed)]


def _given(options: Options) -> Iterator[str]:
    """The options with a plain value that differ from what holds without them, and the seed."""
    values = {
        "--n": options.n,
        "--task": options.task,
        "--limit": options.limit,
        "--epochs": options.epochs if options.epochs > 1 else None,
        "--max-tokens": options.max_tokens,
        "--temperature": options.temperature,
        "--budget-tokens": options.budget_tokens,
        "--budget-calls": options.budget_calls,
        "--deadline": options.deadline,
        "--route": options.route if options.route != "solve" else None,
        "--seed": options.seed,
    }
    for name, value in values.items():
        if value is not None:
            yield from (name, f"{value:g}" if isinstance(value, float) else str(value))


def _typed(value: object) -> str:
    """A param's value as it may be typed."""
    if isinstance(value, str) and param(f"x={value}")[1] == value:
        return value
    return json.dumps(value)
