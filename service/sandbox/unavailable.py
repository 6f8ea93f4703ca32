"""Error of a sandbox that cannot be set up."""

from __future__ import annotations

from secondpass.strategies.api.errors import SecondpassError


class SandboxUnavailable(SecondpassError):
    """The sandbox could not be set up, and nothing was run. The message contains the cause."""
