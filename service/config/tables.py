"""The tables of the settings' file: engines of each kind, prices, and roles."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_settings import NoDecode

from secondpass.service.common.routing_headers import (
    AFFINITY,
    DESTINATION,
    MAX_VALUE,
    OBJECTIVE_HEADER,
    PRIORITY,
    PRIORITY_HEADER,
    RESERVED,
    is_token,
    is_value,
)
from secondpass.strategies.api.model_profiles import Profile

Positive = Annotated[int, Field(ge=1)]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


ADDRESS = "begins with http:// or https:// and names a host, without a user's name or password"


def is_address(text: str) -> bool:
    """Is it a URL of a server, up to a path?"""
    try:
        parts = urlsplit(text)
        is_whole = bool(parts.hostname) and parts.port != 0  # a port out of range raises
        (parts.hostname or "").encode("idna")  # raises as well, for an empty or a long label
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text
    is_bare = not parts.query and "@" not in parts.netloc
    return parts.scheme in ("http", "https") and is_whole and is_plain and is_bare


def _address(text: str) -> str:
    if not is_address(text):
        raise ValueError(ADDRESS)
    return text


def _shell_words(text: str) -> str:
    shlex.split(text)  # raises ValueError for a quote that is not closed
    return text


def _header_name(name: str) -> str:
    if not is_token(name):
        raise ValueError("is not the name of a header: letters, digits and !#$%&'*+-.^_`|~")
    if name.lower() in RESERVED:
        raise ValueError("cannot be set: requests carry this header already")
    return name


def _no_power(name: str) -> str:
    if name.lower() in PRIORITY or name.lower().startswith(DESTINATION):
        raise ValueError("cannot carry a session, which a client chooses: it decides who is served")
    return name


def _no_session(name: str) -> str:
    if name.lower() in AFFINITY:
        raise ValueError("cannot carry the tenant: a client may send this header")
    return name


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    lower = [name.lower() for name in names]
    if repeated := [name for i, name in enumerate(names) if lower[i] in lower[:i]]:
        raise ValueError(f"has {repeated[0]} twice")
    return names


def _header_value(text: str) -> str:
    if not is_value(text):
        raise ValueError(
            f"is not the value of a header: 1 to {MAX_VALUE} printable ASCII characters"
        )
    return text


_HeaderName = Annotated[str, AfterValidator(_header_name)]
SessionHeaders = Annotated[
    tuple[Annotated[_HeaderName, AfterValidator(_no_power)], ...], AfterValidator(_distinct)
]
TenantHeaders = Annotated[
    tuple[Annotated[_HeaderName, AfterValidator(_no_session)], ...], AfterValidator(_distinct)
]


def _names(value: object) -> object:
    """A variable holds names with commas between them; a file has a list."""
    if not isinstance(value, str):
        return value
    return [name.strip() for name in value.split(",")] if value.strip() else []


Names = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_names), NoDecode
]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prices(_Table):
    """What a million tokens cost, in any one currency."""

    prompt: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    completion: float = Field(default=0.0, ge=0, allow_inf_nan=False)


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError(
            "names the variable that holds the key: letters, digits and _, never the key"
        )
    return name


Variable = Annotated[str, AfterValidator(_variable)]


class _RemoteTable(_Table):
    """A server behind a URL, and the routing headers that its calls carry.

    `key_env` names the variable that holds the server's key. `session_headers` carry the session of a call and
    `tenant_headers` the tenant's name. `objective` is the value of x-llm-d-inference-objective, and `priority`
    of X-Vllm-Priority: lower is earlier, on a server that schedules by priority.
    """

    url: Annotated[str, AfterValidator(_address)]
    model: str = Field(min_length=1)
    key_env: Variable | None = None
    max_concurrent_calls: Positive | None = None
    prices: Prices | None = None
    session_headers: SessionHeaders = ("X-Session-ID",)
    tenant_headers: TenantHeaders = ()
    objective: Annotated[str, AfterValidator(_header_value)] | None = None
    priority: int | None = Field(default=None, ge=-(2**31), lt=2**31)

    @model_validator(mode="after")
    def _carries_one_value_a_header(self) -> Self:
        used = [
            *(("session_headers", name.lower()) for name in self.session_headers),
            *(("tenant_headers", name.lower()) for name in self.tenant_headers),
            *([("objective", OBJECTIVE_HEADER)] if self.objective is not None else []),
            *([("priority", PRIORITY_HEADER)] if self.priority is not None else []),
        ]
        names = [name for _, name in used]
        for i, (field, name) in enumerate(used):
            if name in names[:i]:
                raise ValueError(
                    f"{field} and {used[names.index(name)][0]} share the header {name}"
                )
        return self


class HttpEngineTable(_RemoteTable):
    """A server that speaks OpenAI's protocol."""

    kind: Literal["http"]


class PoolingEngineTable(_RemoteTable):
    """A vLLM server of a reward model, which plays no other role than `reward`."""

    kind: Literal["pooling"]


class VllmEngineTable(_Table):
    """vLLM in this process; `flags` are its own, as on its command line."""

    kind: Literal["vllm"]
    model: str = Field(min_length=1)
    flags: Annotated[str, AfterValidator(_shell_words)] = ""
    max_concurrent_calls: Positive | None = None
    prices: Prices | None = None

    @property
    def arguments(self) -> list[str]:
        """The flags, one by one."""
        return shlex.split(self.flags)


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


AnyEngineTable = HttpEngineTable | VllmEngineTable | PoolingEngineTable | ScriptedEngineTable
EngineTable = Annotated[AnyEngineTable, Field(discriminator="kind")]
ENGINE_KINDS = ("http", "vllm", "pooling", "scripted")
_OWN_FLAGS: dict[str, tuple[str, ...]] = {
    "http": ("engine_url", "engine_key_env"),
    "vllm": ("vllm_flags",),
    "scripted": (),
}


def engine_of_flags(
    kind: str, model: str | None, given: Mapping[str, str | None]
) -> AnyEngineTable:
    """The engine that --engine, --model and the `given` flags of one kind describe. Raises ValueError."""
    for owner, flags in _OWN_FLAGS.items():
        for flag in flags:
            if owner != kind and given[flag] is not None:
                raise ValueError(f"{flag} is for the {owner} engine, not for the {kind} one")
    if kind == "scripted":
        return ScriptedEngineTable(kind="scripted", model=model or "scripted")
    if kind == "http" and given["engine_url"] is None:
        raise ValueError("engine_url is missing: the http engine's address")
    if model is None:
        raise ValueError(f"model is missing: what the {kind} engine serves")
    if kind == "vllm":
        return VllmEngineTable(kind="vllm", model=model, flags=given["vllm_flags"] or "")
    url = given["engine_url"] or ""
    if not is_address(url):
        shown = "" if "@" in url else f", not {url!r}"
        raise ValueError(f"engine_url {ADDRESS}{shown}")
    return HttpEngineTable(kind="http", url=url, model=model, key_env=given["engine_key_env"])


class RoleTable(_Table):
    """A role's engine, and how it is drawn where neither the strategy nor the client says so."""

    engine: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: Positive | None = None


def _as_table(value: object) -> object:
    return {"engine": value} if isinstance(value, str) else value


Role = Annotated[RoleTable, BeforeValidator(_as_table), NoDecode]
"""A table, or the engine's name alone, also where a variable holds it."""


class Roles(_Table):
    """Which engine serves a role. Critic and judge are the actor's unless they are named; reward is nobody's."""

    actor: Role = RoleTable()
    critic: Role = RoleTable()
    judge: Role = RoleTable()
    reward: Role = RoleTable()


class ProfileTable(_Table):
    """What differs in a model from what its name says; `match` is found in the name: * stands for anything.

    `thinking` are the marks around thoughts. See docs/operations.md.
    """

    match: str = Field(min_length=1)
    is_thinking: bool | None = None
    thinking: tuple[str, str] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: Positive | None = None
    own_reference: bool | None = None

    @model_validator(mode="after")
    def _draws_what_thinks(self) -> Self:
        if self.is_thinking and self.temperature == 0:
            raise ValueError("temperature: a model that thinks is not drawn at 0")
        return self

    def matches(self, model: str) -> bool:
        """Is it about this model?"""
        return fnmatchcase(model.casefold(), self.match.casefold())

    def applied(self, name: str, profile: Profile) -> Profile:
        """The profile with what is set here."""
        changes = self.model_dump(exclude={"match"}, exclude_none=True)
        return profile.model_copy(update=changes | {"name": name})


def table_of(path: Sequence[str]) -> type[BaseModel]:
    """The table in which the setting at `path` would stand."""
    if path[0] == "roles":
        return Roles if len(path) == 2 else RoleTable
    if path[0] == "profiles":
        return ProfileTable
    if "prices" in path[2:-1]:
        return Prices
    kinds: dict[str, type[BaseModel]] = {
        "scripted": ScriptedEngineTable,
        "vllm": VllmEngineTable,
        "pooling": PoolingEngineTable,
    }
    return next((kinds[part] for part in path[2:-1] if part in kinds), HttpEngineTable)
