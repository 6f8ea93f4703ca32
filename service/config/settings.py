"""Settings of the service, read from flags, SECONDPASS_* variables and a TOML file.

Unknown keys are errors in every source: an ignored setting would mislead the operator.
The field descriptions are the `--help` of `secondpass serve` and, by `tools.settings_page`, the reference pages.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from inspect import cleandoc
from ipaddress import ip_address
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from secondpass.service.common.errors import BadSettings
from secondpass.service.common.limits import Limits
from secondpass.service.config.http_settings import HttpSettings
from secondpass.service.config.messages import all_of, lines
from secondpass.service.config.replicas import check_replicas
from secondpass.service.config.sources import (
    PREFIX,
    ConfigFile,
    flag_problem,
    flag_source,
    split_flags,
)
from secondpass.service.config.tables import (
    AnyEngineTable,
    Positive,
    check_caps,
    engine_of_flags,
)
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.entry_points import StrategyNotLoaded
from secondpass.strategies.api.model_profiles import Profile, profile_of
from secondpass.strategies.api.values import Role

DEFAULT_ENGINE = "default"
"""Name of the engine configured by --engine and --model."""


class Settings(HttpSettings):
    """Serve questions over HTTP: POST /solve and an OpenAI-compatible /v1/chat/completions.

    Configure several engines in the file: [engines.NAME] with kind, url, model, key_env, max_concurrent_calls and prices,
    [roles] with actor, critic, judge and reward, and [profiles.NAME] for models that are not recognized by name.

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

    default_strategy: str = Field("single", description="strategy of requests that name none")
    default_open_strategy: str = Field(
        "meta_rm", description="strategy of standalone open questions that name none"
    )
    max_n: Positive = Field(64, description="upper limit of a strategy's `n`")
    max_tokens_per_call: Positive | None = Field(
        None,
        description="completion tokens of one call without `sampling.max_tokens`; unset: by the model's profile",
    )
    max_sampling_tokens: Positive = Field(
        131_072, description="upper limit of `sampling.max_tokens`"
    )
    default_max_tokens: Positive | None = Field(
        None, description="default of `budget.max_tokens`; unset: computed for each run"
    )
    default_deadline_ms: Positive | None = Field(
        None, description="default of `budget.deadline_ms`; unset: computed for each run"
    )
    max_budget_tokens: Positive = Field(1_000_000, description="upper limit of `budget.max_tokens`")
    max_budget_prompt_tokens: Positive = Field(
        10_000_000, description="upper limit and default of `budget.max_prompt_tokens`"
    )
    max_budget_calls: Positive = Field(
        4096, description="upper limit and default of `budget.max_calls`"
    )
    max_budget_samples: Positive = Field(
        4096, description="upper limit and default of `budget.max_samples`"
    )
    max_budget_cost: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="upper limit and default of `budget.max_cost`; every engine then needs prices",
    )
    max_deadline_ms: Positive = Field(
        600_000, description="upper limit of `budget.deadline_ms`, in milliseconds"
    )

    @property
    def engine_tables(self) -> dict[str, AnyEngineTable]:
        """All engines by name, including the engine configured by flags."""
        if self.engine is None:
            return self.engines
        return {DEFAULT_ENGINE: self._engine_of_flags(), **self.engines}

    @property
    def role_engines(self) -> dict[Role, str]:
        """Engine name of each assigned role; actor, critic and judge are always assigned."""
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
        """Names of the engines that generate text: all but reward models."""
        return [name for name, table in self.engine_tables.items() if table.kind != "pooling"]

    def profile_of(self, model: str) -> Profile:
        """The profile derived from the model's name, overridden by every matching [profiles] table in order."""
        profile = profile_of(model)
        for name, table in self.profiles.items():
            if table.matches(model):
                profile = table.applied(name, profile)
        return profile

    @property
    def operator_maxima(self) -> Limits:
        """The largest value of each limit that a client may request."""
        return Limits(
            max_tokens=self.max_budget_tokens,
            max_prompt_tokens=self.max_budget_prompt_tokens,
            max_calls=self.max_budget_calls,
            max_samples=self.max_budget_samples,
            max_cost=self.max_budget_cost,
            deadline_ms=self.max_deadline_ms,
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
                lambda: check_caps(self.profiles, self.max_sampling_tokens),
                self._check_exposure,
            )
        )
        return self

    def _check_defaults(self) -> None:
        for setting in ("default_strategy", "default_open_strategy"):
            if (name := getattr(self, setting)) not in STRATEGIES:
                raise ValueError(f"{setting}: must be one of {', '.join(STRATEGIES)}, not {name!r}")
        for default, maximum in (
            ("max_tokens_per_call", "max_sampling_tokens"),
            ("default_max_tokens", "max_budget_tokens"),
            ("default_deadline_ms", "max_deadline_ms"),
        ):
            value, limit = getattr(self, default), getattr(self, maximum)
            if value is not None and value > limit:
                raise ValueError(f"{default}: must be at most {maximum} ({limit}), not {value}")

    def _check_exposure(self) -> None:
        if not (is_loopback(self.host) or self.api_keys_file or self.allow_unauthenticated):
            raise ValueError(
                f"host {self.host} is reachable from other machines, and no API keys are configured: "
                "set api_keys_file, or allow_unauthenticated to serve without keys"
            )

    def _check_engines(self) -> None:
        inside = [name for name, t in self.engine_tables.items() if t.kind == "vllm"]
        if len(inside) > 1:
            raise ValueError(f"a process runs only one vllm engine, not {', '.join(inside)}")
        if self.engine is None:
            for key in ("engine_url", "engine_key_env", "model", "vllm_flags"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key}: requires engine; set engine to http, vllm or scripted"
                    )
            if not self.engines:
                raise ValueError(
                    "no engine is configured: set engine and model, or [engines.NAME] in the file"
                )
            return
        if DEFAULT_ENGINE in self.engines:
            raise ValueError(
                f"engine {DEFAULT_ENGINE!r} is configured by --engine and by [engines.{DEFAULT_ENGINE}]; remove one"
            )

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
                raise ValueError(f"roles.{role}: must be one of {', '.join(names)}, not {name!r}")
            if name is not None and role != "reward" and name not in self._writers:
                raise ValueError(
                    f"roles.{role} needs an engine that generates text, not the pooling engine {name!r}"
                )
        for key in ("temperature", "max_tokens"):
            if getattr(self.roles.reward, key) is not None:
                raise ValueError(f"roles.reward.{key} has no effect: a reward is not sampled")
        writers = self._writers
        if not writers:
            raise ValueError("roles.actor is missing: pooling engines generate no text")
        if self.roles.actor.engine is None and DEFAULT_ENGINE not in writers and len(writers) > 1:
            raise ValueError(
                f"roles.actor: required with several engines; must be one of {', '.join(writers)}"
            )

    def _check_prices(self) -> None:
        if self.max_budget_cost is None:
            return
        for name, table in self.engine_tables.items():
            if table.prices is None:
                raise ValueError(
                    f"max_budget_cost needs prices, and engine {name!r} has none: "
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
        """Return the sources by precedence: flags and values in code, variables, the file."""
        return init_settings, env_settings, ConfigFile(settings_cls)


# --help prints the docstring verbatim.
Settings.__doc__ = cleandoc(Settings.__doc__ or "")


def load(arguments: Sequence[str], **given: Any) -> Settings:
    """Load the settings for these command-line arguments.

    Args:
        arguments: Flags of `secondpass serve`. Arguments after `--` are vLLM's own flags.
        given: Settings by name, which win over variables and the file.

    Raises:
        BadSettings: A setting is invalid, or an installed strategy cannot be loaded.
        SystemExit: After `--help` was printed.
    """
    own, vllm_flags = split_flags(arguments)
    if vllm_flags is not None:
        given["vllm_flags"] = shlex.join(vllm_flags)
    try:
        source = flag_source(Settings)
        return CliApp.run(Settings, cli_args=own, cli_settings_source=source, **given)
    except ValidationError as error:
        raise BadSettings("\n".join(lines(error, Settings.model_fields))) from error
    except SettingsError as error:
        raise BadSettings(flag_problem(str(error), Settings)) from error
    except StrategyNotLoaded as error:
        raise BadSettings(str(error)) from error


def is_loopback(host: str) -> bool:
    """Return whether `host`, an address to listen on, is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
