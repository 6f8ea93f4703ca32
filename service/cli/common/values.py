"""Types of option values for argparse, and the parameters in a strategy's JSON schema."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import NoReturn

from pydantic import ValidationError

from secondpass.service.cli.common.failure import Json
from secondpass.service.common import validation
from secondpass.strategies.api.values import Sampling


def key_value(text: str) -> tuple[str, str]:
    """Parse KEY=VALUE. The value may be empty."""
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, not {text!r}")
    return key, value


def param(text: str) -> tuple[str, object]:
    """Parse KEY=VALUE. The value is parsed as JSON, and kept as text if it is not JSON."""
    key, value = key_value(text)
    try:
        return key, json.loads(value, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return key, value


def param_schemas(schema: Json) -> Json:
    """Return the schema of each parameter of a strategy, by name.

    A discriminated union contributes the parameters of all variants. If several variants have a parameter, a schema with
    a default wins.
    """
    found = dict(schema.get("properties", {}))
    for branch in schema.get("oneOf", ()):
        variant = schema["$defs"][branch["$ref"].rsplit("/", 1)[-1]]
        for name, param_schema in variant.get("properties", {}).items():
            if "default" not in found.get(name, {}):
                found[name] = param_schema
    return found


def number(text: str) -> float:
    """Parse a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}")
    return value


def seconds(text: str) -> float:
    """Parse a duration in seconds, 0 or more."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text!r}")
    return value


def sampling_value(field: str, number: Callable[[str], float]) -> Callable[[str], float]:
    """Return a parser of values in the range of a `Sampling` field."""

    def parse(text: str) -> float:
        try:
            value = number(text)
            Sampling.model_validate({field: value})
        except ValidationError as error:
            problem = validation.message(error.errors(include_url=False)[0])
            raise argparse.ArgumentTypeError(f"{problem}, not {text!r}") from error
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from error
        return value

    return parse


def count(text: str) -> int:
    """Parse a whole number, 1 or more."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, not {text!r}")
    return int(text)


def _reject_constant(name: str) -> NoReturn:
    """Keep NaN and Infinity as text: Python's parser would accept them as numbers."""
    raise ValueError(f"{name} is not JSON")
