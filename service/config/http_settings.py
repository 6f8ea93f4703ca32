"""Settings of the HTTP server: address, access, and limits of connections and requests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from secondpass.service.config.engine_settings import EngineSettings
from secondpass.service.config.tables import Names, Positive

LogLevel = Literal["critical", "error", "warning", "info", "debug"]

_HOST_HEADER = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]|\*")
_REMOTE_HOST = re.compile(r"(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*")


def _host_headers(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _HOST_HEADER.fullmatch(name):
            raise ValueError(f"must be host names without scheme and port, or *, not {name!r}")
    return names


def _remote_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _REMOTE_HOST.fullmatch(name) or name.split(".")[-1] == "localhost":
            raise ValueError(
                f"{name!r} is not the name of a remote host in lower case; "
                "addresses, ports, wildcards and localhost are not allowed"
            )
    return names


class HttpSettings(EngineSettings):
    """Address, access, sessions, logs, and limits of connections and requests."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free port")
    api_keys_file: Path | None = Field(
        None, description="API keys: a file with lines `TENANT:SHA256_OF_KEY`"
    )
    allow_unauthenticated: bool = Field(
        False, description="listen on addresses other than loopback without API keys"
    )
    trusted_tenants: Names = Field(
        (),
        description="tenants whose priority and fairness headers reach the engines; `*` is every tenant",
    )
    ignore_client_sessions: bool = Field(
        False, description="ignore sessions that clients name, and forward no affinity headers"
    )
    session_max_n: Positive = Field(
        8, description="drafts of a run that may share one session, and so one engine replica"
    )
    session_of_large_votes: Literal["none", "split"] = Field(
        "none",
        description="sessions of a run with more than `session_max_n` drafts: none, or one per `session_max_n` drafts",
    )
    session_of_forwards: Literal["none", "opening"] = Field(
        "none",
        description="session of a forwarded request whose client names none: none, or one derived from the opening messages",
    )
    log_level: LogLevel = Field("info", description="lowest level that is logged")
    access_log: bool = Field(False, description="log one line per request")
    keep_alive_seconds: float = Field(
        15.0, gt=0, description="idle seconds before a stream sends a keep-alive comment"
    )
    stalled_client_seconds: float = Field(
        60.0, gt=0, description="seconds without reading after which a client is disconnected"
    )
    shutdown_grace_seconds: float = Field(
        20.0,
        ge=0,
        description="seconds that requests may continue after SIGTERM; then runs end with their best answer so far",
    )
    health_check_seconds: float = Field(
        10.0, gt=0, description="seconds between health checks of an engine that is ready"
    )
    max_body_bytes: Positive = Field(4 * 2**20, description="size limit of a request body in bytes")
    body_timeout_seconds: float = Field(
        120.0, gt=0, description="seconds in which a request body must arrive"
    )
    min_body_rate: Positive = Field(
        1024, description="least bytes per second of a request body, after its first 10 seconds"
    )
    max_connections: Positive = Field(
        4096, description="open connections, per process; further ones get a 503 and are closed"
    )
    header_timeout_seconds: float = Field(
        10.0, gt=0, description="seconds in which the headers of a request must arrive"
    )
    max_header_bytes: Positive = Field(
        32 * 2**10, description="size limit of the headers of a request in bytes"
    )
    max_headers: Positive = Field(100, description="most headers of a request")
    max_target_bytes: Positive = Field(
        8 * 2**10, description="size limit of the path and query of a request in bytes"
    )
    allowed_hosts: Annotated[Names, AfterValidator(_host_headers)] = Field(
        (),
        description="without API keys: names that the Host header may have besides loopback names; `*` allows all",
    )
    allow_image_hosts: Annotated[Names, AfterValidator(_remote_hosts)] = Field(
        (),
        description="hosts of https image URLs in requests with a strategy; data URLs need none",
    )
