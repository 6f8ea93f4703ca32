"""Every setting of the service: one frozen value, read from flags, then SECONDPASS_* variables, then a TOML file.

A key that does not exist is an error wherever it stands: a setting that is dropped in silence is a lie.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from inspect import cleandoc
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSuppress,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from secondpass.service.common.errors import BadSettings
from secondpass.service.common.limits import Limits
from secondpass.service.config.messages import all_of, lines
from secondpass.service.config.replicas import Replicas, check_replicas
from secondpass.service.config.sources import PREFIX, ConfigFile, flag_problem
from secondpass.service.config.tables import (
    AnyEngineTable,
    EngineTable,
    Names,
    Positive,
    ProfileTable,
    Roles,
    Variable,
    engine_of_flags,
)
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.entry_points import StrategyNotLoaded
from secondpass.strategies.api.model_profiles import Profile, profile_of
from secondpass.strategies.api.values import Role

DEFAULT_ENGINE = "default"
"""The name of the engine that --engine and --model describe."""

LogLevel = Literal["critical", "error", "warning", "info", "debug"]


class Settings(BaseSettings):
    """Serve questions over HTTP: POST /solve and an OpenAI-compatible /v1/chat/completions.

    Several engines and roles stand in the file: [engines.NAME] with kind, url, model, key_env, max_concurrent_calls
    and prices, [roles] with actor, critic, judge and reward, and [profiles.NAME] for what a model's name does not tell.

    Examples:
      secondpass serve --engine vllm --model FOLDER_OR_HUB_NAME -- --max-model-len 8192
      secondpass serve --engine http --engine-url http://127.0.0.1:9000/v1 --model NAME --engine-key-env KEY
      secondpass serve --config secondpass.toml --host 0.0.0.0 --api-keys-file keys
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        cli_prog_name="secondpass serve",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_implicit_flags="toggle",
        cli_show_env_vars=True,
        cli_exit_on_error=False,
        cli_avoid_json=True,
    )

    config: Path | None = Field(None, description="TOML file with settings")
    engine: Literal["http", "vllm", "scripted"] | None = Field(
        None, description="kind of the engine, where there is one only"
    )
    engine_url: str | None = Field(None, description="address of the http engine, up to its /v1")
    engine_key_env: Variable | None = Field(
        None, description="name of the variable that holds the http engine's key"
    )
    model: str | None = Field(
        None, description="the model that the engine serves; for vllm a folder or a hub name"
    )
    vllm_flags: str | None = Field(
        None, description="vLLM's own flags for the vllm engine; as well after --, one by one"
    )
    engines: CliSuppress[dict[str, EngineTable]] = Field(default_factory=dict)
    roles: CliSuppress[Roles] = Field(default_factory=Roles)
    profiles: CliSuppress[dict[str, ProfileTable]] = Field(default_factory=dict)
    calibrations: Path | None = Field(
        None, description="file, or folder of files, that `secondpass calibrate` wrote"
    )
    max_concurrent_calls: Positive = Field(
        256, description="calls in an engine at once, from each pod; more wait"
    )
    replicas: Replicas = Field(
        "one",
        description="pods that serve with these settings; with many, what only one process can count is refused",
    )
    answer_workers: Positive = Field(
        2, description="processes that compare mathematical answers, about 100 MB each"
    )
    sandbox: bool = Field(
        False,
        description="run the tests of code tasks against answers, in bubblewrap on this machine",
    )
    max_sandboxes: Positive = Field(
        2, description="answers tested at once, up to 1 GiB each; more wait"
    )
    max_runs: Positive = Field(1024, description="solves at once; more are refused with a 503")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    api_keys_file: Path | None = Field(None, description="file of lines TENANT:SHA256_OF_KEY")
    allow_unauthenticated: bool = Field(
        False, description="listen beyond this machine although there are no API keys"
    )
    trusted_tenants: Names = Field(
        (),
        description="tenants whose priority and fairness headers reach the engines; * is every tenant",
    )
    ignore_client_sessions: bool = Field(
        False,
        description="take no session from a client for affinity, and forward none of its affinity headers",
    )
    session_max_n: Positive = Field(
        8,
        description="most drafts of a run that share one session, and so one replica of an engine",
    )
    session_of_large_votes: Literal["none", "split"] = Field(
        "none",
        description="for a run with more drafts: no session, or one for each session_max_n drafts",
    )
    session_of_forwards: Literal["none", "opening"] = Field(
        "none",
        description="for a forwarded request whose client names no session: none, or one for each conversation, by its opening",
    )
    log_level: LogLevel = Field("info", description="what is logged")
    access_log: bool = Field(False, description="log a line for each request")
    keep_alive_seconds: float = Field(
        15.0, gt=0, description="silence after which a stream gets a comment"
    )
    stalled_client_seconds: float = Field(
        60.0, gt=0, description="time without taking a byte after which a client counts as gone"
    )
    shutdown_grace_seconds: float = Field(
        20.0,
        ge=0,
        description="time that running solves get before they end with their best so far",
    )
    health_check_seconds: float = Field(10.0, gt=0, description="time between checks of an engine")
    max_body_bytes: Positive = Field(4 * 2**20, description="largest request body")

    default_strategy: str = Field("single", description="strategy of a solve that names none")
    default_open_strategy: str = Field(
        "meta_rm", description="the same, for an open question that stands alone"
    )
    max_n: Positive = Field(64, description="largest n of a strategy")
    max_tokens_per_call: Positive = Field(
        2048,
        description="completion tokens of one call unless sampling.max_tokens says more or less",
    )
    max_sampling_tokens: Positive = Field(131_072, description="largest sampling.max_tokens")
    default_max_tokens: Positive = Field(16_384, description="budget.max_tokens unless given")
    default_deadline_ms: Positive = Field(120_000, description="budget.deadline_ms unless given")
    max_budget_tokens: Positive = Field(1_000_000, description="largest budget.max_tokens")
    max_budget_prompt_tokens: Positive = Field(
        10_000_000, description="largest budget.max_prompt_tokens, and what holds unless given"
    )
    max_budget_calls: Positive = Field(
        4096, description="largest budget.max_calls, and what holds unless given"
    )
    max_budget_samples: Positive = Field(
        4096, description="largest budget.max_samples, and what holds unless given"
    )
    max_budget_cost: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="largest budget.max_cost, and what holds unless given",
    )
    max_deadline_ms: Positive = Field(600_000, description="largest budget.deadline_ms")

    @property
    def engine_tables(self) -> dict[str, AnyEngineTable]:
        """Every engine by its name, the one of the flags among them."""
        if self.engine is None:
            return self.engines
        return {DEFAULT_ENGINE: self._engine_of_flags(), **self.engines}

    @property
    def role_engines(self) -> dict[Role, str]:
        """The engine's name for each role that has one; always the actor's, the critic's and the judge's."""
        writers = self._writers
        actor = self.roles.actor.engine or (
            DEFAULT_ENGINE if DEFAULT_ENGINE in writers else writers[0]
        )
        named: dict[Role, str] = {
            "actor": actor,
            "critic": self.roles.critic.engine or actor,
            "judge": self.roles.judge.engine or actor,
        }
        reward = self.roles.reward.engine
        return named if reward is None else {**named, "reward": reward}

    @property
    def _writers(self) -> list[str]:
        """The engines that write text, which those of reward models do not."""
        return [name for name, table in self.engine_tables.items() if table.kind != "pooling"]

    def profile_of(self, model: str) -> Profile:
        """What is particular to a model: what its name tells, with the [profiles] that match it, in their order."""
        profile = profile_of(model)
        for name, table in self.profiles.items():
            if table.matches(model):
                profile = table.applied(name, profile)
        return profile

    @property
    def operator_maxima(self) -> Limits:
        """The largest value of each limit that a client may ask for."""
        return Limits(
            max_tokens=self.max_budget_tokens,
            max_prompt_tokens=self.max_budget_prompt_tokens,
            max_calls=self.max_budget_calls,
            max_samples=self.max_budget_samples,
            max_cost=self.max_budget_cost,
            deadline_ms=self.max_deadline_ms,
        )

    @property
    def default_limits(self) -> Limits:
        """The limits of a solve that names none."""
        return self.operator_maxima.model_copy(
            update={"max_tokens": self.default_max_tokens, "deadline_ms": self.default_deadline_ms}
        )

    @model_validator(mode="after")
    def _is_servable(self) -> Self:
        self._check_engines()
        all_of(
            (
                self._check_roles,
                self._check_prices,
                lambda: check_replicas(self.replicas, self.engine_tables),
                self._check_defaults,
                self._check_exposure,
            )
        )
        return self

    def _check_defaults(self) -> None:
        for setting in ("default_strategy", "default_open_strategy"):
            if (name := getattr(self, setting)) not in STRATEGIES:
                raise ValueError(f"{setting} is not one of {', '.join(STRATEGIES)}: {name!r}")
        for default, maximum in (
            ("max_tokens_per_call", "max_sampling_tokens"),
            ("default_max_tokens", "max_budget_tokens"),
            ("default_deadline_ms", "max_deadline_ms"),
        ):
            if getattr(self, default) > getattr(self, maximum):
                raise ValueError(f"{default} is larger than {maximum}")

    def _check_exposure(self) -> None:
        if not (_is_loopback(self.host) or self.api_keys_file or self.allow_unauthenticated):
            raise ValueError(
                f"host {self.host} is reached from other machines and there are no API keys: "
                "set api_keys_file, or allow_unauthenticated to say that you mean it"
            )

    def _check_engines(self) -> None:
        inside = [name for name, t in self.engine_tables.items() if t.kind == "vllm"]
        if len(inside) > 1:
            raise ValueError(f"one vllm engine fits into a process, not {', '.join(inside)}")
        if self.engine is None:
            for key in ("engine_url", "engine_key_env", "model", "vllm_flags"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} needs engine (its kind) beside it")
            if not self.engines:
                raise ValueError(
                    "there is no engine: set engine and model, or [engines.NAME] in the file"
                )
            return
        if DEFAULT_ENGINE in self.engines:
            raise ValueError(f"engine and [engines.{DEFAULT_ENGINE}] name the same engine twice")

    def _engine_of_flags(self) -> AnyEngineTable:
        flags = ("engine_url", "engine_key_env", "vllm_flags")
        return engine_of_flags(
            str(self.engine), self.model, {flag: getattr(self, flag) for flag in flags}
        )

    def _check_roles(self) -> None:
        names = list(self.engine_tables)
        for role, table in self.roles:
            name = table.engine
            if name is not None and name not in names:
                raise ValueError(f"roles.{role} is not an engine ({', '.join(names)}): {name!r}")
            if name is not None and role != "reward" and name not in self._writers:
                raise ValueError(
                    f"roles.{role} has to write, and the pooling engine {name!r} cannot"
                )
        for key in ("temperature", "max_tokens"):
            if getattr(self.roles.reward, key) is not None:
                raise ValueError(f"roles.reward.{key} means nothing: a reward is not drawn")
        writers = self._writers
        if not writers:
            raise ValueError("roles.actor is missing: the pooling engines write no text")
        if self.roles.actor.engine is None and DEFAULT_ENGINE not in writers and len(writers) > 1:
            raise ValueError(f"roles.actor is missing: one of {', '.join(writers)}")

    def _check_prices(self) -> None:
        if self.max_budget_cost is None:
            return
        for name, table in self.engine_tables.items():
            if table.prices is None:
                raise ValueError(
                    f"max_budget_cost limits nothing without prices, and engine {name!r} has none: "
                    f"set prices in [engines.{name}] in the file"
                )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values in code, then variables, then the file that either of them (or a flag) names."""
        return init_settings, env_settings, ConfigFile(settings_cls)


# --help shows it as it stands.
Settings.__doc__ = cleandoc(Settings.__doc__ or "")


def load(arguments: Sequence[str], **given: Any) -> Settings:
    """The settings for these command-line arguments; what follows after -- are vLLM's own flags.

    What is `given` beats variables and the file. Raises BadSettings, also for an installed strategy that cannot be
    loaded; --help prints and exits.
    """
    own, vllm_flags = _divided(arguments)
    if vllm_flags is not None:
        given["vllm_flags"] = shlex.join(vllm_flags)
    try:
        return CliApp.run(Settings, cli_args=own, **given)
    except ValidationError as error:
        raise BadSettings("\n".join(lines(error, Settings.model_fields))) from error
    except SettingsError as error:
        raise BadSettings(flag_problem(str(error), Settings)) from error
    except StrategyNotLoaded as error:
        raise BadSettings(str(error)) from error


def _divided(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Our arguments, and those after the first -- (None without one). Raises BadSettings."""
    if "--" not in arguments:
        return list(arguments), None
    place = list(arguments).index("--")
    own = list(arguments[:place])
    if any(flag.split("=")[0] == "--vllm-flags" for flag in own):
        raise BadSettings("vLLM's flags stand in --vllm-flags or after --, not in both")
    return own, list(arguments[place + 1 :])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
