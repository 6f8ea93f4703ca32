"""The tables of the settings' file: engines of each kind, prices, and roles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prices(_Table):
    """What a million tokens cost, in any one currency."""

    prompt: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    completion: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class HttpEngineTable(_Table):
    """A server that speaks OpenAI's protocol; `key_env` names the variable that holds its key."""

    kind: Literal["http"]
    url: str = Field(pattern=r"^https?://")
    model: str = Field(min_length=1)
    key_env: str | None = None
    max_concurrent_calls: Positive | None = None
    prices: Prices | None = None


class ScriptedEngineTable(_Table):
    """The fake that ships: latencies in seconds, `rate` in deltas a second over all calls."""

    kind: Literal["scripted"]
    model: str = Field(default="scripted", min_length=1)
    first_token: float = Field(default=0.0, ge=0)
    per_token: float = Field(default=0.0, ge=0)
    tokens_per_delta: Positive = 1
    rate: float | None = Field(default=None, gt=0)
    max_concurrent_calls: Positive | None = None
    prices: Prices | None = None


EngineTable = Annotated[HttpEngineTable | ScriptedEngineTable, Field(discriminator="kind")]


class Roles(_Table):
    """Which engine serves a role. Critic and judge are the actor's engine unless they are named."""

    actor: str | None = None
    critic: str | None = None
    judge: str | None = None
    reward: str | None = None


def table_of(path: Sequence[str]) -> type[BaseModel]:
    """The table in which the setting at `path` would stand."""
    if path[0] == "roles":
        return Roles
    if "prices" in path[2:-1]:
        return Prices
    return ScriptedEngineTable if "scripted" in path[2:-1] else HttpEngineTable
