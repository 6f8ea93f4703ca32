"""Probe of a pooling server: its scoring route, which depends on the model and on vLLM's version.

A sequence classifier scores at /classify. A model that scores every token scores only at /pooling, and the score of
the last token is the conversation's. Older servers accept token ids from /tokenize instead of messages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.model_list import context_window, entries_of, find_model
from secondpass.service.engines.openai.probe import PROBE_MESSAGES
from secondpass.service.engines.openai.tokenizer_info import fetch_control_tokens
from secondpass.service.engines.openai.usage import token_ids_of
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

_PROBE_CONVERSATION = [*PROBE_MESSAGES, {"role": "assistant", "content": "Yes."}]
_SUM_TOLERANCE = 0.02
"""Tolerance on the sum of two probabilities: some servers compute them in bfloat16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardServer:
    """Probe result of a pooling server.

    Attributes:
        dialect: model, capabilities and context window.
        route: route that scores.
        accepts_messages: whether the route renders messages itself; otherwise it needs token ids.
        labels: number of the model's labels, 1 or 2.
    """

    dialect: Dialect
    route: Route
    accepts_messages: bool
    labels: int


async def probe_reward_server(connection: Connection, requested: str | None) -> RewardServer:
    """Return how the server scores with the model `requested`; None for its only model.

    Raises:
        EngineError: the server does not answer or cannot score; the message contains the reason.
    """
    listed = await connection.fetch("GET", f"{connection.url}/models")
    with connection.parsing(None):
        model = find_model(entries_of(listed["data"]), requested, connection)
    name = str(model["id"])
    ids = await _probe_prompt_ids(connection, name)
    route, accepts_messages, labels = await _find_route(connection, name, ids)
    capabilities: set[Capability] = {"reward"} if ids is None else {"reward", "tokenize"}
    dialect = Dialect(
        model=name,
        is_vllm=True,
        capabilities=frozenset(capabilities),
        context_window=context_window(model),
        control_tokens=await fetch_control_tokens(connection),
    )
    return RewardServer(
        dialect=dialect, route=route, accepts_messages=accepts_messages, labels=labels
    )


def label_values(reply: Mapping[str, Any], route: Route) -> list[float]:
    """Return the values of all labels, of the last token if each token has values; NaN for null.

    Call within a `Connection.parsing` block.
    """
    data = reply["data"][0]["probs" if route == "classify" else "data"]
    row = data[-1] if isinstance(data[-1], list) else data
    return [math.nan if value is None else float(_number(value)) for value in row]


def _number(value: Any) -> float:
    if type(value) not in (float, int):
        raise TypeError("a score is not a number")
    number: float = value
    return number


def tokenize_body(model: str, messages: Sequence[Mapping[str, Any]]) -> Json:
    """Return the body for /tokenize that renders a conversation with a finished last turn."""
    return {"model": model, "messages": list(messages), "add_generation_prompt": False}


async def _probe_prompt_ids(connection: Connection, model: str) -> list[int] | None:
    """Return the token ids of the probe's conversation.

    None if /tokenize is unavailable or the model has no chat template.
    """
    with suppress(CallRejected, StreamInterrupted):
        body = tokenize_body(model, _PROBE_CONVERSATION)
        reply = await connection.fetch("POST", f"{connection.root}/tokenize", body)
        with connection.parsing(None):
            return list(token_ids_of(reply["tokens"]))
    return None


async def _find_route(
    connection: Connection, model: str, ids: list[int] | None
) -> tuple[Route, bool, int]:
    """Return the scoring route, whether it accepts messages, and the model's number of labels."""
    try:
        return "classify", *await _find_input(connection, "classify", model, ids)
    except (CallRejected, EngineUnavailable) as error:
        # With a model that scores each token, /classify exists and returns 501.
        if isinstance(error, CallRejected) and error.status != 404:
            raise
    try:
        return "pooling", *await _find_input(connection, "pooling", model, ids)
    except CallRejected as error:
        if error.status != 404:
            raise
    raise CallRejected(
        "the server has neither /classify nor /pooling: start vLLM with --runner pooling",
        engine=connection.engine,
        status=404,
    )


async def _find_input(
    connection: Connection, route: Route, model: str, ids: list[int] | None
) -> tuple[bool, int]:
    """Return whether the route accepts messages, and the model's number of labels."""
    body: Json = {"model": model, "messages": _PROBE_CONVERSATION}
    try:
        return True, await _count_labels(connection, route, body)
    except CallRejected as error:
        if ids is None or error.status not in (400, 422):
            raise
    body = {"model": model, "input": ids, "add_special_tokens": False}
    return False, await _count_labels(connection, route, body)


async def _count_labels(connection: Connection, route: Route, body: Json) -> int:
    """Return the model's number of labels, 1 or 2. Raises EngineError if they do not define a reward."""
    reply = await connection.fetch(
        "POST", f"{connection.root}/{route}", body | {"use_activation": True}
    )
    with connection.parsing(None):
        values = label_values(reply, route)
    if len(values) == 1:
        return 1
    if len(values) == 2 and abs(sum(values) - 1) <= _SUM_TOLERANCE and min(values) >= 0:
        return 2
    what = (
        "two labels whose probabilities do not sum to 1"
        if len(values) == 2
        else f"{len(values)} labels"
    )
    # Not a CallRejected: another request format would not help.
    raise EngineError(
        f"the model has {what}: use a model with one label, or with two exclusive labels",
        engine=connection.engine,
    )
