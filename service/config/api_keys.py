"""Who may call: API keys, each of which belongs to a tenant. Only their hashes are ever stored."""

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
    """Who sent a request. `cache_salt` keeps its part of a prefix cache to itself; None where all share one."""

    name: str
    cache_salt: str | None = None


ANYBODY = Tenant("anybody")
"""The tenant of every request where no keys are configured."""


class Tenants:
    """The keys of a service; without any, everybody is the same tenant."""

    def __init__(self, digests: Mapping[str, str] | None = None) -> None:
        """`digests` maps the hexadecimal SHA-256 of a key to the name of its tenant."""
        digests = digests or {}
        self._keys = [
            (bytes.fromhex(digest), Tenant(name, _salt(name, digests)))
            for digest, name in digests.items()
        ]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read lines of TENANT:SHA256_OF_KEY; empty lines and # comments are skipped. Raises BadSettings."""
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
                    f"{where}: a tenant's name is 1 to 64 letters, digits, dots, dashes or underscores"
                )
            if not _DIGEST.fullmatch(digest):
                raise BadSettings(
                    f"{where}: after {name}: comes the key's SHA-256 in 64 hexadecimal digits, never the key"
                )
            if digests.setdefault(digest.lower(), name) != name:
                raise BadSettings(f"{where}: this key belongs to another tenant already")
        if not digests:
            raise BadSettings(f"api_keys_file {path} has no key in it")
        return cls(digests)

    @property
    def names(self) -> list[str]:
        """The name of every tenant, each once."""
        return list(dict.fromkeys(tenant.name for _, tenant in self._keys)) or [ANYBODY.name]

    @property
    def are_everybody(self) -> bool:
        """Are there no keys, so that anybody may call?"""
        return not self._keys

    def identify(self, authorization: str | None) -> Tenant:
        """The tenant of an Authorization header. Raises Unauthorized.

        Every key is compared, in constant time, so that the time taken tells nothing about any of them.
        """
        if not self._keys:
            return ANYBODY
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthorized("an API key is needed: Authorization: Bearer KEY")
        digest = hashlib.sha256(key.strip().encode("latin-1", "replace")).digest()
        found: Tenant | None = None
        for known, tenant in self._keys:
            if hmac.compare_digest(known, digest):
                found = tenant
        if found is None:
            raise Unauthorized("this API key is not known")
        return found


def _salt(name: str, digests: Mapping[str, str]) -> str:
    """The same for every process with the same keys, and unknown to whoever does not have their hashes."""
    own = sorted(digest.lower() for digest, owner in digests.items() if owner == name)
    return hashlib.sha256("\n".join(("cache salt", name, *own)).encode()).hexdigest()[:32]
