"""How does this pooling server score? Asked once, since it depends on the model and on vLLM's version.

A sequence classifier answers at /classify. A model that scores every token answers at /pooling alone, where the last
token's score is the conversation's. Older servers take no messages there, but tokens that /tokenize rendered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.probe import QUESTION, find_model
from secondpass.service.engines.openai.wire import Dialect
from secondpass.strategies.api.errors import (
    CallRejected,
    EngineError,
    EngineUnavailable,
    StreamInterrupted,
)
from secondpass.strategies.api.values import Capability

Json = dict[str, Any]
Route = Literal["classify", "pooling"]

_ANSWERED = [*QUESTION, {"role": "assistant", "content": "Yes."}]
_ROUNDING = 0.02
"""How far two probabilities may be from 1 together: some servers compute them in bfloat16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardServer:
    """What is known of a server that has answered; `labels` is 1 or 2, and `takes_messages` says who renders."""

    dialect: Dialect
    route: Route
    takes_messages: bool
    labels: int


async def find_reward_server(connection: Connection, wanted: str | None) -> RewardServer:
    """How the server scores, seen in what it does. Raises EngineError saying why it cannot."""
    listed = await connection.fetch("GET", f"{connection.url}/models")
    with connection.readable(None):
        model = find_model(listed["data"], wanted, connection.engine)
        window = model.get("max_model_len")
    name = str(model["id"])
    ids = await _question_ids(connection, name)
    route, takes_messages, labels = await _find_route(connection, name, ids)
    found: set[Capability] = {"reward"} if ids is None else {"reward", "tokenize"}
    dialect = Dialect(
        model=name,
        is_vllm=True,
        capabilities=frozenset(found),
        context_window=window if isinstance(window, int) else None,
    )
    return RewardServer(dialect=dialect, route=route, takes_messages=takes_messages, labels=labels)


def values_of(reply: Mapping[str, Any], route: Route) -> list[float]:
    """The values of all labels; where every token has its own, those of the last. Within `readable`."""
    data = reply["data"][0]["probs" if route == "classify" else "data"]
    row = data[-1] if isinstance(data[-1], list) else data
    return [float(value) for value in row]


def rendering(model: str, messages: Sequence[Mapping[str, Any]]) -> Json:
    """The body for /tokenize that renders a conversation whose last turn is finished."""
    return {"model": model, "messages": list(messages), "add_generation_prompt": False}


async def _question_ids(connection: Connection, model: str) -> list[int] | None:
    """The probe's conversation as token ids; None where /tokenize is not to be reached or has no template."""
    with suppress(CallRejected, StreamInterrupted):
        body = rendering(model, _ANSWERED)
        reply = await connection.fetch("POST", f"{connection.root}/tokenize", body)
        with connection.readable(None):
            return [int(token) for token in reply["tokens"]]
    return None


async def _find_route(
    connection: Connection, model: str, ids: list[int] | None
) -> tuple[Route, bool, int]:
    """The route that scores, whether it renders messages itself, and the model's number of labels."""
    try:
        return "classify", *await _find_input(connection, "classify", model, ids)
    except (CallRejected, EngineUnavailable) as refused:
        # A model that scores each token has the route too, and a 501 behind it.
        if isinstance(refused, CallRejected) and refused.status != 404:
            raise
    try:
        return "pooling", *await _find_input(connection, "pooling", model, ids)
    except CallRejected as refused:
        if refused.status != 404:
            raise
    raise CallRejected(
        "it has neither /classify nor /pooling, as vLLM has with --runner pooling",
        engine=connection.engine,
        status=404,
    )


async def _find_input(
    connection: Connection, route: Route, model: str, ids: list[int] | None
) -> tuple[bool, int]:
    try:
        return True, await _labels(connection, route, {"model": model, "messages": _ANSWERED})
    except CallRejected as refused:
        if ids is None or refused.status not in (400, 422):
            raise
    body = {"model": model, "input": ids, "add_special_tokens": False}
    return False, await _labels(connection, route, body)


async def _labels(connection: Connection, route: Route, body: Json) -> int:
    """How many labels the model has, if a reward can be read from them. Raises EngineError."""
    reply = await connection.fetch(
        "POST", f"{connection.root}/{route}", body | {"use_activation": True}
    )
    with connection.readable(None):
        values = values_of(reply, route)
    if len(values) == 1:
        return 1
    if len(values) == 2 and abs(sum(values) - 1) <= _ROUNDING and min(values) >= 0:
        return 2
    what = "two labels that are not one choice" if len(values) == 2 else f"{len(values)} labels"
    # Not a refusal of the server: another way of asking would not help.
    raise EngineError(
        f"the model has {what}: a reward is read from one label, or from the second of two",
        engine=connection.engine,
    )
