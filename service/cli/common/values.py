"""Values of options as several commands take them; argparse says what is wrong with one."""

from __future__ import annotations

import argparse
import json
import math
from typing import NoReturn

from secondpass.service.cli.common.failure import Json


def key_value(text: str) -> tuple[str, str]:
    """KEY=VALUE; the value may be empty."""
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, not {text!r}")
    return key, value


def param(text: str) -> tuple[str, object]:
    """KEY=VALUE, whose value is JSON or else text."""
    key, value = key_value(text)
    try:
        return key, json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return key, value


def fields_of(schema: Json) -> Json:
    """The properties of a strategy's parameters by name, those of all variants; of several the one with a default."""
    found = dict(schema.get("properties", {}))
    for branch in schema.get("oneOf", ()):
        variant = schema["$defs"][branch["$ref"].rsplit("/", 1)[-1]]
        for name, about in variant.get("properties", {}).items():
            if "default" not in found.get(name, {}):
                found[name] = about
    return found


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}")
    return value


def seconds(text: str) -> float:
    """A time to wait, 0 or more."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text!r}")
    return value


def count(text: str) -> int:
    """A whole number, 1 or more."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, not {text!r}")
    return int(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is a word here")
