"""The command that made records, as it can be typed again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from secondpass.service.cli.common.values import param
from secondpass.service.cli.evaluate.options import EvalOptions


def eval_command(options: EvalOptions) -> list[str]:
    """The arguments that affect the answers; files by name, without their folders."""
    words = ["secondpass", "eval"]
    for path in options.data:
        words += ["--data", Path(path).name]
    for name in options.strategies:
        words += ["--strategy", name]
    for key, value in options.param:
        words += ["--param", f"{key}={_typed(value)}"]
    return [*words, *_given(options)]


def _given(options: EvalOptions) -> Iterator[str]:
    """Plain options that differ from their defaults, and always --seed."""
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
