"""The limit of open files of the process, which its connections must not reach."""

from __future__ import annotations

import resource

from secondpass.service.common.errors import BadSettings
from secondpass.service.config.settings import Settings

OTHER_FILES = 512
"""Open files besides the connections of clients and engines, such as pipes and refused connections."""


def needed_files(settings: Settings) -> int:
    """Return the number of files that the process may have open with these settings."""
    calls = sum(
        table.max_concurrent_calls or settings.max_concurrent_calls
        for table in settings.engine_tables.values()
    )
    return settings.max_connections + calls + OTHER_FILES


def check_open_files(settings: Settings) -> None:
    """Raise BadSettings if the hard limit of the process does not allow `max_connections`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = needed_files(settings)
    if hard != resource.RLIM_INFINITY and needed > hard:
        allowed = max(0, settings.max_connections - (needed - hard))
        raise BadSettings(
            f"max_connections: {settings.max_connections} needs {needed} open files, and the limit of this process is "
            f"{hard}; set at most {allowed}, or raise the hard limit (`ulimit -Hn`)"
        )


def allow_open_files(settings: Settings) -> None:
    """Raise the soft limit of open files to what `max_connections` needs. Raises BadSettings."""
    check_open_files(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = needed_files(settings)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
