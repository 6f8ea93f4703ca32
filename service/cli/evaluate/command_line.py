"""Command line that reproduces an evaluation, stored in its records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from secondpass.service.cli.common.values import param
from secondpass.service.cli.evaluate.options import EvalOptions


def eval_command(options: EvalOptions) -> list[str]:
    """Return the arguments that affect the answers. Files are reduced to their names."""
    words = ["secondpass", "eval"]
    for path in options.data:
        words += ["--data", Path(path).name]
    for name in options.strategies:
        words += ["--strategy", name]
    for key, value in options.param:
        words += ["--param", f"{key}={_format_value(value)}"]
    return [*words, *_single_options(options)]


def _single_options(options: EvalOptions) -> Iterator[str]:
    """Yield the options that are given once and differ from their defaults, and always --seed."""
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


def _format_value(value: object) -> str:
    """Return text from which `param` parses the same value."""
    if isinstance(value, str) and param(f"x={value}")[1] == value:
        return value
    return json.dumps(value)
