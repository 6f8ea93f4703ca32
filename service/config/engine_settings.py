"""Settings of the engines, and of the resources that runs share in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, CliSuppress

from secondpass.service.config.replicas import Replicas
from secondpass.service.config.tables import EngineTable, Positive, ProfileTable, Roles, Variable


class EngineSettings(BaseSettings):
    """Engines, roles and profiles, and the number of calls, workers, sandboxes and runs at once."""

    config: Path | None = Field(None, description="TOML file with settings")
    engine: Literal["http", "vllm", "scripted"] | None = Field(
        None, description="kind of the engine, for a service with one engine"
    )
    engine_url: str | None = Field(None, description="base URL of the http engine, with its `/v1`")
    engine_key_env: Variable | None = Field(
        None, description="name of the environment variable with the http engine's API key"
    )
    model: str | None = Field(
        None, description="model that the engine serves; for vllm a folder or a hub name"
    )
    vllm_flags: str | None = Field(
        None,
        description="vLLM's own flags for the vllm engine, as one string; or pass them after `--`",
    )
    engines: CliSuppress[dict[str, EngineTable]] = Field(default_factory=dict)
    roles: CliSuppress[Roles] = Field(default_factory=Roles)
    profiles: CliSuppress[dict[str, ProfileTable]] = Field(default_factory=dict)
    calibrations: Path | None = Field(
        None,
        description="file written by `secondpass calibrate`, or a folder of such files; without it all votes weigh the same",
    )
    max_concurrent_calls: Positive = Field(
        256, description="calls in flight at each engine, per process; further calls wait"
    )
    replicas: Replicas = Field(
        "one",
        description="number of pods that share these settings; `many` rejects settings that only one process can count",
    )
    answer_workers: Positive = Field(
        2, description="processes that compare mathematical answers; each needs about 100 MB"
    )
    sandbox: bool = Field(
        False,
        description="run the tests of `code` tasks against answers, in bubblewrap on this machine",
    )
    max_sandboxes: Positive = Field(
        2, description="answers tested at once, per process, up to 1 GiB each; further ones wait"
    )
    max_runs: Positive = Field(
        1024,
        description="runs and forwarded requests in progress at once, per process; further requests get a 503",
    )
