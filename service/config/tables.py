"""Tables of the settings file: engines of each kind, prices, roles and profiles."""

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

ADDRESS = "must begin with http:// or https:// and name a host, without user name or password"


def is_address(text: str) -> bool:
    """True for the base URL of a server without user name, password, query and fragment."""
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0  # raises for a port out of range
        (parts.hostname or "").encode("idna")  # raises for an empty or a long label
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text
    has_user = "@" in parts.netloc or "%" in parts.netloc.split("[")[0]  # an IPv6 zone has a %
    is_bare = not (has_user or parts.query or "#" in text)
    return parts.scheme in ("http", "https") and has_host and is_plain and is_bare


def _address(text: str) -> str:
    if not is_address(text):
        raise ValueError(ADDRESS)
    return text


def _shell_words(text: str) -> str:
    shlex.split(text)  # raises ValueError for an unclosed quote
    return text


def _header_name(name: str) -> str:
    if not is_token(name):
        raise ValueError("is not a header name: use letters, digits and !#$%&'*+-.^_`|~")
    if name.lower() in RESERVED:
        raise ValueError("cannot be set: requests already carry this header")
    return name


def _may_carry_session(name: str) -> str:
    if name.lower() in PRIORITY or name.lower().startswith(DESTINATION):
        raise ValueError(
            "cannot carry a session: this header sets priority or destination, and clients choose sessions"
        )
    return name


def _may_carry_tenant(name: str) -> str:
    if name.lower() in AFFINITY:
        raise ValueError("cannot carry the tenant: clients may send this header")
    return name


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    lower = [name.lower() for name in names]
    if repeated := [name for i, name in enumerate(names) if lower[i] in lower[:i]]:
        raise ValueError(f"lists {repeated[0]} twice")
    return names


def _header_value(text: str) -> str:
    if not is_value(text):
        raise ValueError(f"is not a header value: use 1 to {MAX_VALUE} printable ASCII characters")
    return text


_HeaderName = Annotated[str, AfterValidator(_header_name)]
SessionHeaders = Annotated[
    tuple[Annotated[_HeaderName, AfterValidator(_may_carry_session)], ...],
    AfterValidator(_distinct),
]
TenantHeaders = Annotated[
    tuple[Annotated[_HeaderName, AfterValidator(_may_carry_tenant)], ...], AfterValidator(_distinct)
]


def _names(value: object) -> object:
    """Split the comma-separated names of a variable; a file contains a list."""
    if not isinstance(value, str):
        return value
    return [name.strip() for name in value.split(",")] if value.strip() else []


Names = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_names), NoDecode
]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prices(_Table):
    """Prices per million tokens, all in one currency."""

    prompt: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="price of a million prompt tokens"
    )
    completion: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="price of a million completion tokens"
    )


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError(
            "must be the name of a variable (letters, digits and _) that holds the key, not the key"
        )
    return name


Variable = Annotated[str, AfterValidator(_variable)]


class _EngineTable(_Table):
    """The keys that all kinds of engines have."""

    max_concurrent_calls: Positive | None = Field(
        default=None,
        description="calls in flight at this engine, per process; unset uses the setting of that name",
    )
    prices: Prices | None = Field(
        default=None,
        description="prices per million tokens, `{ prompt = 0.1, completion = 0.4 }`; `budget.max_cost` needs them",
    )


class _RemoteTable(_EngineTable):
    """A server at a URL, with the routing headers of its calls."""

    url: Annotated[str, AfterValidator(_address)] = Field(
        description="base URL of the server, including its `/v1`"
    )
    model: str = Field(min_length=1, description="name under which the server serves the model")
    key_env: Variable | None = Field(
        default=None, description="name of the environment variable with the server's API key"
    )
    session_headers: SessionHeaders = Field(
        default=("X-Session-ID",), description="headers that carry the session of a call"
    )
    tenant_headers: TenantHeaders = Field(
        default=(), description="headers that carry the name of the tenant"
    )
    objective: Annotated[str, AfterValidator(_header_value)] | None = Field(
        default=None, description="value of `x-llm-d-inference-objective`"
    )
    priority: int | None = Field(
        default=None,
        ge=-(2**31),
        le=2**31 - 1,
        description="value of `X-Vllm-Priority`; a server that schedules by priority serves lower values first",
    )

    @model_validator(mode="after")
    def _carries_one_value_per_header(self) -> Self:
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
    """A server with an OpenAI-compatible API."""

    kind: Literal["http"]


class PoolingEngineTable(_RemoteTable):
    """A vLLM server with a reward model. It can only have the role `reward`."""

    kind: Literal["pooling"]


class VllmEngineTable(_EngineTable):
    """vLLM in this process."""

    kind: Literal["vllm"]
    model: str = Field(min_length=1, description="folder or hub name of the model")
    flags: Annotated[str, AfterValidator(_shell_words)] = Field(
        default="", description="vLLM's own flags, as on its command line"
    )

    @property
    def arguments(self) -> list[str]:
        """The flags as a list of arguments."""
        return shlex.split(self.flags)


class ScriptedEngineTable(_EngineTable):
    """A fake engine that needs no model, for tests and benchmarks."""

    kind: Literal["scripted"]
    model: str = Field(default="scripted", min_length=1, description="name of the model")
    first_token: float = Field(default=0.0, ge=0, description="seconds until the first token")
    per_token: float = Field(default=0.0, ge=0, description="seconds between two tokens")
    tokens_per_delta: Positive = Field(default=1, description="tokens per delta of a stream")
    rate: float | None = Field(
        default=None, gt=0, description="deltas per second over all calls; unset is unlimited"
    )


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
    """Build the engine table from --engine, --model and the `given` flags. Raises ValueError."""
    for owner, flags in _OWN_FLAGS.items():
        for flag in flags:
            if owner != kind and given[flag] is not None:
                raise ValueError(f"{flag} is for the {owner} engine, not for the {kind} one")
    if kind == "scripted":
        return ScriptedEngineTable(kind="scripted", model=model or "scripted")
    if kind == "http" and given["engine_url"] is None:
        raise ValueError("engine_url is missing: the base URL of the http engine")
    if model is None:
        raise ValueError(f"model is missing: the model that the {kind} engine serves")
    if kind == "vllm":
        return VllmEngineTable(kind="vllm", model=model, flags=given["vllm_flags"] or "")
    url = given["engine_url"] or ""
    if not is_address(url):
        shown = "" if "@" in url or "%" in url else f", not {url!r}"
        raise ValueError(f"engine_url {ADDRESS}{shown}")
    return HttpEngineTable(kind="http", url=url, model=model, key_env=given["engine_key_env"])


class RoleTable(_Table):
    """The engine of a role, and defaults for its calls where neither strategy nor client set them."""

    engine: str | None = Field(
        default=None, description="name of an engine; unset uses the role's default"
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="default sampling temperature"
    )
    max_tokens: Positive | None = Field(
        default=None, description="default limit of completion tokens per call"
    )


def _as_table(value: object) -> object:
    return {"engine": value} if isinstance(value, str) else value


Role = Annotated[RoleTable, BeforeValidator(_as_table), NoDecode]
"""A table, or the name of an engine, in the file and in variables."""


class Roles(_Table):
    """The engine of each role. Critic and judge default to the actor's engine; reward has no default."""

    actor: Role = Field(
        default=RoleTable(),
        description="generates drafts and revisions; defaults to the engine of the flags, or to the only engine that generates text",
    )
    critic: Role = Field(
        default=RoleTable(), description="writes critiques; defaults to the actor's engine"
    )
    judge: Role = Field(
        default=RoleTable(),
        description="grades and compares answers; defaults to the actor's engine",
    )
    reward: Role = Field(
        default=RoleTable(), description="scores answers with a reward model; unassigned by default"
    )


class ProfileTable(_Table):
    """Overrides of the profile that is derived from a model's name. See docs/operations/engines.md."""

    match: str = Field(
        min_length=1,
        description="pattern for the whole model name, case-insensitive; `*` matches any text",
    )
    is_thinking: bool | None = Field(
        default=None, description="whether the model emits reasoning before its answer"
    )
    thinking: tuple[str, str] | None = Field(
        default=None, description="opening and closing delimiters of the reasoning"
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="recommended temperature; not 0 for a reasoning model"
    )
    top_p: float | None = Field(default=None, gt=0, le=1, description="recommended top-p")
    top_k: Positive | None = Field(default=None, description="recommended top-k")
    max_tokens: Positive | None = Field(
        default=None,
        description="default limit of completion tokens per call; unset: 32768 for a reasoning model, else 4096",
    )
    own_reference: bool | None = Field(
        default=None,
        description="whether the model judges better with a self-written reference solution",
    )

    @model_validator(mode="after")
    def _samples_reasoning_above_zero(self) -> Self:
        if self.is_thinking and self.temperature == 0:
            raise ValueError("temperature: must be above 0 for a reasoning model")
        return self

    def matches(self, model: str) -> bool:
        """True if the pattern matches this model name."""
        return fnmatchcase(model.casefold(), self.match.casefold())

    def applied(self, name: str, profile: Profile) -> Profile:
        """Return `profile` with the overrides of this table, named `name`."""
        changes = self.model_dump(exclude={"match"}, exclude_none=True)
        return profile.model_copy(update=changes | {"name": name})


def check_caps(profiles: Mapping[str, ProfileTable], limit: int) -> None:
    """Raise ValueError if a profile's `max_tokens` exceeds `limit`, the setting `max_sampling_tokens`."""
    for name, table in profiles.items():
        if (table.max_tokens or 0) > limit:
            raise ValueError(
                f"profiles.{name}.max_tokens: must be at most max_sampling_tokens ({limit}), not {table.max_tokens}"
            )


def table_of(path: Sequence[str]) -> type[BaseModel]:
    """Return the class of the table that contains the setting at `path`."""
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
