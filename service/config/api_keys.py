"""API keys and their tenants. Only SHA-256 digests of keys are stored."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from secondpass.service.common.errors import BadSettings, Unauthorized

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Tenant:
    """The sender of a request. `cache_salt` isolates its part of a prefix cache; None shares the cache."""

    name: str
    cache_salt: str | None = None


ANONYMOUS = Tenant("anybody")
"""Tenant of all requests where no API keys are configured."""


class Tenants:
    """The API keys of a service. Without keys, all requests belong to one tenant."""

    def __init__(self, digests: Mapping[str, str] | None = None) -> None:
        """Map the hexadecimal SHA-256 `digests` of keys to the names of their tenants."""
        digests = digests or {}
        self._keys = [
            (bytes.fromhex(digest), Tenant(name, _salt(name, digests)))
            for digest, name in digests.items()
        ]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read lines `TENANT:SHA256_OF_KEY`, skipping blank lines and # comments. Raises BadSettings."""
        digests: dict[str, str] = {}
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"api_keys_file {path}: {error}") from error
        for number, line in enumerate(lines, start=1):
            entry = line.split("#")[0].strip()
            if not entry:
                continue
            name, _, digest = (part.strip() for part in entry.partition(":"))
            where = f"api_keys_file {path}, line {number}"
            if not _NAME.fullmatch(name):
                raise BadSettings(
                    f"{where}: a tenant name is 1 to 64 letters, digits, dots, dashes or underscores"
                )
            if not _DIGEST.fullmatch(digest):
                raise BadSettings(
                    f"{where}: {name}: must be followed by the SHA-256 of the key (64 hexadecimal digits), not by the key"
                )
            if digests.setdefault(digest.lower(), name) != name:
                raise BadSettings(f"{where}: this key already belongs to another tenant")
        if not digests:
            raise BadSettings(f"api_keys_file {path} contains no key")
        return cls(digests)

    @property
    def names(self) -> list[str]:
        """Names of all tenants, without duplicates."""
        return list(dict.fromkeys(tenant.name for _, tenant in self._keys)) or [ANONYMOUS.name]

    @property
    def is_open(self) -> bool:
        """True where no keys are configured, so that all callers are served."""
        return not self._keys

    @property
    def are_several(self) -> bool:
        """True if more than one tenant has a key, so that the tenants share engines."""
        return len(self.names) > 1

    def identify(self, authorization: str | None) -> Tenant:
        """Return the tenant of an Authorization header. Raises Unauthorized.

        Every key is compared in constant time, so the time taken reveals nothing about the keys.
        """
        if not self._keys:
            return ANONYMOUS
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthorized(
                "an API key is required: Authorization: Bearer KEY", reason="missing"
            )
        digest = hashlib.sha256(key.strip().encode("latin-1", "replace")).digest()
        found: Tenant | None = None
        for known, tenant in self._keys:
            if hmac.compare_digest(known, digest):
                found = tenant
        if found is None:
            raise Unauthorized("unknown API key in Authorization: Bearer KEY", reason="unknown")
        return found


def _salt(name: str, digests: Mapping[str, str]) -> str:
    """A cache salt that all processes with the same keys share, and that is secret without their digests."""
    own = sorted(digest.lower() for digest, owner in digests.items() if owner == name)
    return hashlib.sha256("\n".join(("cache salt", name, *own)).encode()).hexdigest()[:32]
