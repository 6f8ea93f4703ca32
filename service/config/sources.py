"""Sources of settings besides flags, and the messages for unknown keys."""

from __future__ import annotations

import os
import re
import tomllib
from argparse import Action, ArgumentParser
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliSettingsSource, PydanticBaseSettingsSource

from secondpass.service.common.errors import BadSettings

PREFIX = "SECONDPASS_"

_METAVARS = {
    "--engine-url": "URL", "--engine-key-env": "VAR", "--vllm-flags": "FLAGS", "--calibrations": "PATH",
    "--host": "HOST", "--max-budget-cost": "COST",
    "Path": "FILE", "str": "NAME", "tuple[str,...]": "NAME", "int": "N", "float": "SECONDS",
}  # fmt: skip
"""Placeholders of values in `--help`, by flag, else by the name of the type."""

_EMPTY_DEFAULT = re.compile(r" \(default: (None|\(\))\)")

_NO_JSON = re.compile(r'error parsing value for field "(\w+)" from source "EnvSettingsSource"')


class ConfigFile(PydanticBaseSettingsSource):
    """The TOML file that a source of higher precedence names in `config`. Raises BadSettings."""

    def __call__(self) -> dict[str, Any]:
        """Return the values of the file. Also reject unknown variables, which pydantic would ignore."""
        known = list(self.settings_cls.model_fields)
        _reject_unknown_variables(known)
        path = self.current_state.get("config")
        if path is None:
            return {}
        try:
            values = tomllib.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise BadSettings(f"config {path}: {error.strerror}") from error
        except ValueError as error:
            raise BadSettings(f"config {path}: {error}") from error
        known.remove("config")
        for key in values:
            if key not in known:
                raise BadSettings(f"config {path}: {unknown(key, known)}")
        return values

    def get_field_value(
        self,
        field: FieldInfo,
        field_name: str,
    ) -> tuple[Any, str, bool]:
        """Unused: the whole file is read at once."""
        return None, field_name, False


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Split the arguments at the first `--`; the second part is None without one. Raises BadSettings."""
    if "--" not in arguments:
        return list(arguments), None
    at = list(arguments).index("--")
    own = list(arguments[:at])
    if any(flag.split("=")[0] == "--vllm-flags" for flag in own):
        raise BadSettings("set vLLM's flags in --vllm-flags or after --, not in both")
    return own, list(arguments[at + 1 :])


def flag_source(settings: type[BaseSettings]) -> CliSettingsSource[Any]:
    """Return the source of flags, with readable placeholders and no empty defaults in `--help`."""
    return CliSettingsSource[Any](settings, add_argument_method=_add_argument)


def _add_argument(parser: ArgumentParser, *flags: str, **options: Any) -> Action:
    if metavar := options.get("metavar"):
        options["metavar"] = _METAVARS.get(flags[0], _METAVARS.get(metavar, metavar))
    options["help"] = _EMPTY_DEFAULT.sub("", options["help"])
    return ArgumentParser.add_argument(parser, *flags, **options)


def unknown(key: str, allowed: Iterable[str]) -> str:
    """Message for an unknown key, with the nearest or all allowed keys."""
    allowed = list(allowed)
    near = get_close_matches(key, allowed, n=3, cutoff=0.5)
    listed = f"nearest: {', '.join(near)}" if near else f"allowed: {', '.join(allowed)}"
    return f"unknown setting {key!r}; {listed}"


def flag_problem(message: str, settings: type[BaseSettings]) -> str:
    """Message for an invalid flag or variable, with the nearest flags for an unknown one."""
    if value := _NO_JSON.fullmatch(message):
        name = f"{PREFIX}{value[1].upper()}"
        return f"{name} is not JSON; alternatively set {name}__KEY for each key"
    message = message.removeprefix("error parsing CLI: ")
    unrecognized = message.removeprefix("unrecognized arguments: ")
    flag = unrecognized.split()[0].split("=")[0]
    if unrecognized == message or not flag.startswith("--"):
        return message
    return unknown(flag, [f"--{name.replace('_', '-')}" for name in settings.model_fields])


def _reject_unknown_variables(fields: Iterable[str]) -> None:
    known = {PREFIX + name.upper() for name in fields}
    for name in os.environ:
        if name.upper().startswith(PREFIX) and name.upper().split("__")[0] not in known:
            raise BadSettings(f"environment: {unknown(name, sorted(known))}")
