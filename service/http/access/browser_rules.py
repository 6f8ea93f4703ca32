"""Hosts and origins that a service without API keys accepts.

Without API keys a service on loopback trusts every program of its machine. A browser on that machine runs the programs of
strangers. It always sends the name of the address in `Host`, which reveals DNS rebinding, and the page's `Origin`.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from secondpass.service.common.errors import HttpError, Malformed, excerpt
from secondpass.service.config.api_keys import Tenants
from secondpass.service.config.settings import Settings, is_loopback

PROBE_PATHS = frozenset(("/livez", "/readyz"))
"""Paths for probes: open to every host and origin, because they reveal nothing."""

METRICS_PATH = "/metrics"

OPEN_PATHS = PROBE_PATHS | {METRICS_PATH}
"""Paths that probes and scrapers read without an API key."""

ANY_HOST = "*"
"""Entry of `allowed_hosts` for all names."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,255})(?::([0-9]{0,5}))?")
_ORIGIN = re.compile(r"(https?)://(.*)")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_SCHEMES = {"ws": "http", "wss": "https"}
_LOCALHOST = "localhost"
_OWN_SITE = frozenset(("same-origin", "none"))


class HostNotAllowed(HttpError):
    """The Host header has a name that the service does not have."""

    status = 421
    code = "host_not_allowed"


class OriginNotAllowed(HttpError):
    """A web page of another origin sent the request."""

    status = 403
    code = "origin_not_allowed"


class BrowserRules:
    """The hosts and origins that a service without API keys accepts.

    Args:
        listens_on: Address that the service listens on. Beyond loopback, IP addresses in the Host header are accepted too:
            DNS rebinding needs a name.
        allowed_hosts: Further names; ANY_HOST accepts all.
    """

    def __init__(self, listens_on: str, allowed_hosts: tuple[str, ...] = ()) -> None:
        self._accepts_addresses = not is_loopback(listens_on)
        self._names = {_without_dot(name.lower()) for name in (listens_on, *allowed_hosts)}
        self._accepts_all = ANY_HOST in allowed_hosts

    @classmethod
    def of(cls, settings: Settings, tenants: Tenants) -> BrowserRules | None:
        """Return the rules of a service; None where API keys are configured, which web pages do not have."""
        return cls(settings.host, settings.allowed_hosts) if tenants.is_open else None

    def check(self, scope: Scope) -> None:
        """Check the request or websocket of an ASGI scope.

        Raises:
            Malformed: The Host header is missing or repeated.
            HostNotAllowed: The Host header has an unknown name.
            OriginNotAllowed: The request comes from a web page of another origin.
        """
        path = scope["path"]
        if path in PROBE_PATHS:
            return
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            if path == METRICS_PATH and not hosts:
                return  # every browser sends the header
            raise Malformed("must occur exactly once", field="host")
        scheme = _scheme(scope)
        here = _authority(hosts[0], scheme)
        if here is None or not self._accepts(here[0], path):
            raise HostNotAllowed(
                f"the Host header has the unknown name {excerpt(hosts[0])!r}; without API keys it must be a loopback name, "
                "or one of the setting allowed_hosts"
            )
        sites = headers.getlist("sec-fetch-site")
        origins = [_origin(text) for text in headers.getlist("origin")]
        if not _OWN_SITE.issuperset(sites) or any(each != (scheme, *here) for each in origins):
            raise OriginNotAllowed(
                "a web page of another origin sent this request; without API keys only pages of the service itself may"
            )

    def _accepts(self, name: str, path: str) -> bool:
        if self._accepts_all or name in self._names or _is_localhost(name):
            return True
        address = _address(name)
        if address is None:
            return False
        accepts_addresses = self._accepts_addresses or path == METRICS_PATH
        return accepts_addresses or _is_loopback_address(address)


def _scheme(scope: Scope) -> str:
    scheme: str = scope.get("scheme", "http")
    return _SCHEMES.get(scheme, scheme)


def _authority(text: str, scheme: str) -> tuple[str, str] | None:
    """Return the name and port of a Host header or an origin; None if it is invalid."""
    found = _AUTHORITY.fullmatch(text.lower())
    if found is None:
        return None
    return _without_dot(found[1]), found[2] or _DEFAULT_PORTS.get(scheme, "")


def _origin(text: str) -> tuple[str, str, str] | None:
    """Return the scheme, name and port of an Origin header; None for `null` and other values without them."""
    found = _ORIGIN.fullmatch(text.lower())
    authority = _authority(found[2], found[1]) if found else None
    return (found[1], *authority) if found and authority else None


def _without_dot(name: str) -> str:
    return name.removesuffix(".")


def _is_localhost(name: str) -> bool:
    return name == _LOCALHOST or name.endswith(f".{_LOCALHOST}")


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _is_loopback_address(address: Any) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
