"""The models that a server lists, in the shapes of several servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.usage import count_of
from secondpass.strategies.api.errors import CallRejected

Entry = Mapping[str, Any]

_MAX_NAME = 512
_MAX_NAMES = 100  # in an error


async def fetch_model(connection: Connection, requested: str | None) -> tuple[Entry, bool]:
    """Return the entry of the model `requested`, and whether the server lists models.

    `requested` is None for the only model. The entry of a server that rejects the request for the list has only the `id` requested.

    Raises:
        EngineError: the server does not answer or does not serve the model; the message contains the reason.
    """
    try:
        listed = await connection.fetch_json("GET", f"{connection.url}/models")
    except CallRejected:
        if requested is None:
            raise
        return {"id": requested}, False
    with connection.parsing(None):
        return find_model(entries_of(listed), requested, connection), True


def entries_of(listed: Any) -> list[Entry]:
    """Return the models in a reply of /models: a list, or an object with `data` or `models`.

    A model is an object with `id` or `name`, or only its name. Raises LookupError and TypeError for anything else.
    """
    if isinstance(listed, dict):
        listed = listed["data"] if "data" in listed else listed["models"]
    if not isinstance(listed, list):
        raise TypeError("the list of models is not a list")
    return [_entry(each) for each in listed]


def _entry(model: Any) -> Entry:
    entry = {"id": model} if isinstance(model, str) else {**model}
    name = entry["id"] if "id" in entry else entry["name"]
    if not isinstance(name, str):
        raise TypeError("the name of a model is not a string")
    return entry | {"id": name}


def find_model(served: Sequence[Entry], requested: str | None, connection: Connection) -> Entry:
    """Return the entry of the model `requested` in `served`; None for the only entry.

    Raises CallRejected with the names of the models in `served` if the model is missing or ambiguous.
    """
    names = [str(model["id"]) for model in served]
    if requested is None and len(served) == 1:
        return _usable(served[0])
    if requested in names:
        return served[names.index(requested)]
    listed = ", ".join(names[:_MAX_NAMES])
    problem = "" if requested is None else f", not {requested!r}"
    advice = ": set the engine's model to one of them" if names else ""
    raise connection.redactor.error(
        lambda quote: CallRejected(
            f"the server serves {quote(listed) or 'no model'}{problem}{advice}",
            engine=connection.engine,
            status=404,
        )
    )


def context_window(model: Entry) -> int | None:
    """Return the context window of a model in tokens, from 1 to 1e9; None if not reported."""
    return count_of(model.get("max_model_len")) or None


def _usable(model: Entry) -> Entry:
    """Return the only model of a server. Raises ValueError if its name cannot be a name in our own API."""
    name = str(model["id"])
    if not (0 < len(name) <= _MAX_NAME and name.isprintable()):
        raise ValueError(f"the name of the model is not 1 to {_MAX_NAME} printable characters")
    return model
