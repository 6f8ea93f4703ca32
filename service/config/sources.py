"""Where settings come from besides flags, and what is said of keys that do not exist."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from secondpass.service.common.errors import BadSettings

PREFIX = "SECONDPASS_"


_NO_JSON = re.compile(r'error parsing value for field "(\w+)" from source "EnvSettingsSource"')


class ConfigFile(PydanticBaseSettingsSource):
    """The TOML file that the sources before this one name in `config`. Raises BadSettings."""

    def __call__(self) -> dict[str, Any]:
        """What the file sets. Variables are checked on the way: pydantic leaves out those it does not know."""
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
        """Unused: the file is read whole."""
        return None, field_name, False


def unknown(key: str, allowed: Iterable[str]) -> str:
    """That there is no such key, and which are nearest."""
    allowed = list(allowed)
    near = get_close_matches(key, allowed, n=3, cutoff=0.5)
    listed = f"nearest: {', '.join(near)}" if near else f"allowed: {', '.join(allowed)}"
    return f"there is no setting {key!r}; {listed}"


def flag_problem(message: str, settings: type[BaseSettings]) -> str:
    """What is wrong with a flag or a variable as a whole, with the nearest flags for one that does not exist."""
    if value := _NO_JSON.fullmatch(message):
        name = f"{PREFIX}{value[1].upper()}"
        return f"{name} is not JSON; as well: {name}__KEY for each key"
    message = message.removeprefix("error parsing CLI: ")
    strange = message.removeprefix("unrecognized arguments: ")
    flag = strange.split()[0].split("=")[0]
    if strange == message or not flag.startswith("--"):
        return message
    return unknown(flag, [f"--{name.replace('_', '-')}" for name in settings.model_fields])


def _reject_unknown_variables(fields: Iterable[str]) -> None:
    known = {PREFIX + name.upper() for name in fields}
    for name in os.environ:
        if name.upper().startswith(PREFIX) and name.upper().split("__")[0] not in known:
            raise BadSettings(f"environment: {unknown(name, sorted(known))}")
