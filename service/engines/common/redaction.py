"""Removal of keys and inner addresses from the texts of other servers.

A server's error message may repeat the API key that it received, or name the host behind it. All messages with a server's
text are built here: those for clients contain neither keys nor addresses, those for the operator's log contain no keys.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from functools import lru_cache
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import quote, urlsplit

import anyio.lowlevel

from secondpass.service.engines.common.status_codes import excerpt
from secondpass.strategies.api.errors import EngineError

E = TypeVar("E", bound=EngineError)
Quote = Callable[[str], str]

KEY = "[key]"
ADDRESS = "[address]"

MIN_KEY_CHARS = 6
"""Least length of a secret key.

A shorter one, such as the usual `EMPTY`, is replaced only as a whole word in its own case.
"""

_MAX_CHARS = 2_048
"""Most characters of a text that are searched. Messages quote the first 200 of them."""

_MAX_READ = 65_536
_PIECE = 4_096
_MARGIN = 1_024
"""Characters dropped at the end of a truncated text, because they may be the beginning of a key."""

_COMMON_KEYS = r"""
    \b(?P<scheme>bearer|basic)(?:[\s:+]|%20){1,3}(?=[^\s"',;\\]{0,64}\d)[^\s"',;\\]{8,4096}
  | \bsk-[\w*-]{6,4096}
  | \b(?:gsk_|hf_|xai-|nvapi-|ghp_)[\w*-]{16,4096}
  | \beyJ[\w-]{10,4096}\.[\w.-]{4,4096}
"""
_INNER_NAMES = r"(?:svc|local|internal|intranet|lan|corp|localdomain|home\.arpa|consul)"
_PORT = r"""(?:['"]?,\s?\d{1,5}\b|:\d{1,5}\b)?"""
_ADDRESSES = rf"""
    (?P<url>\b[a-z][a-z0-9+.-]{{1,15}}://
        (?:[^\s/@"'<>]{{0,256}}@)?(?P<host>\[[0-9a-f:.%]{{2,64}}\]|[^\s/?\#"'<>()\[\]{{}}|\\^`:@,;]{{1,255}})
        [^\s"'<>\\]{{0,2048}})
  | (?P<v6>\[[0-9a-f:.]{{2,45}}(?:%\w{{1,16}})?\](?::\d{{1,5}})?
        | (?<![\w:.])(?:[0-9a-f]{{0,4}}:){{2,7}}[0-9a-f.]{{0,15}}(?:%\w{{1,16}})?){_PORT}
  | (?<!\d)\d{{1,3}}(?:\.\d{{1,3}}){{3,8}}(?!\d){_PORT}
  | \bip-\d{{1,3}}(?:-\d{{1,3}}){{3}}[\w.-]{{0,255}}
  | (?<![\w.-])(?:[a-z0-9_-]{{1,63}}\.){{1,8}}{_INNER_NAMES}(?:\.[a-z0-9-]{{1,63}}){{0,3}}\b{_PORT}
  | \blocalhost\b{_PORT}
  | \bport(?:["']?\s?[=:\#]\s?|\s)\d{{1,5}}\b
"""
_DIGITS = re.compile(r"\d+")
_PORT_AFTER_COMMA = re.compile(r"""(['"]?,\s?)\d{1,5}$""")
_INNER_HOST = re.compile(rf"[^.]*|localhost|.*\.{_INNER_NAMES}(?:\..*)?", re.IGNORECASE)


class Redactor:
    """Replaces the keys of all engines, and addresses, in the texts of one engine's server.

    Args:
        engine: name of the engine. It replaces the address of the engine's own server.
        url: base URL of the server.
        keys: API keys of all engines. Keys of the common forms are replaced although they are not listed.
    """

    def __init__(self, engine: str, url: str, keys: Iterable[str] = ()) -> None:
        self._engine = engine
        try:
            parts = urlsplit(url)
            self._host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:  # an invalid URL is reported when it is used
            self._host, port = "", None
        self._secrets = tuple(sorted({key for key in keys if key}, key=len, reverse=True))
        own = [_spellings(key) for key in self._secrets]
        self._keys = re.compile("|".join((*own, _COMMON_KEYS)), re.IGNORECASE | re.VERBOSE)
        self._addresses = re.compile(
            "|".join((*_own_address(self._host, port), _ADDRESSES)), re.IGNORECASE | re.VERBOSE
        )

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The keys of at least MIN_KEY_CHARS characters, plain and escaped for a URL, in lower case."""
        keys = [key for key in self._secrets if len(key) >= MIN_KEY_CHARS]
        return tuple({each.lower().encode() for key in keys for each in (key, quote(key, safe=""))})

    def without_keys(self, text: str) -> str:
        """Return `text` with each key replaced, however its characters are escaped or capitalised."""
        return self._keys.sub(_key, text)

    def clean(self, text: str) -> str:
        """Return `text` without keys and inner addresses, of any length."""
        return self._addresses.sub(self._address, self.without_keys(text))

    async def clean_body(self, raw: bytes) -> bytes:
        """Return a body without keys and inner addresses. Other tasks run while a long one is searched."""
        text = raw.decode("utf-8", "surrogateescape")
        cleaned = []
        while text:
            end = text.rfind(" ", 0, _PIECE) + 1 if len(text) > _PIECE else len(text)
            end = end or len(text)  # without a blank, a key may be anywhere
            cleaned.append(self.clean(text[:end]))
            text = text[end:]
            await anyio.lowlevel.checkpoint()
        return "".join(cleaned).encode("utf-8", "surrogateescape")

    def for_log(self, text: str) -> str:
        """Return the beginning of `text` on one line, without keys."""
        return excerpt(self.without_keys(_beginning(text)))

    def for_client(self, text: str) -> str:
        """Return the beginning of `text` on one line, without keys and inner addresses."""
        return excerpt(self.clean(_beginning(text)))

    def error(self, build: Callable[[Quote], E]) -> E:
        """Return the error that `build` returns for a function that quotes a server's text.

        Its message is for clients, and its `logged` for the log.
        """
        error = build(self.for_client)
        error.logged = str(build(self.for_log))
        return error

    def _address(self, match: re.Match[str]) -> str:
        found = match.groupdict()
        if found.get("own"):
            return self._engine + _after(match[0])
        if host := found["host"]:
            return self._url(match[0], host.strip("[]").lower().rstrip("."))
        if found["v6"]:
            text = found["v6"].partition("]")[0].strip("[").partition("%")[0]
            return ADDRESS + _after(match[0]) if _is_ip(text) else match[0]
        if match[0][:4].lower() == "port":
            return _DIGITS.sub("0", match[0])
        return ADDRESS + _after(match[0])

    def _url(self, url: str, host: str) -> str:
        """Return the replacement of a URL; one of a public host without a user is kept."""
        if host == self._host:
            return self._engine
        is_inner = "@" in url or _is_ip(host) or _INNER_HOST.fullmatch(host)
        return ADDRESS if is_inner else url


def _after(address: str) -> str:
    """Return what follows a replaced address: a port after a comma becomes 0, as in `('10.0.0.1', 80)`."""
    found = _PORT_AFTER_COMMA.search(address)
    return f"{found[1]}0" if found else ""


def _beginning(text: str) -> str:
    """Return the characters of `text` that are searched, on one line."""
    line = " ".join(text[:_MAX_READ].split())
    is_whole = len(line) <= _MAX_CHARS and len(text) <= _MAX_READ
    return line if is_whole else line[:_MAX_CHARS][:-_MARGIN]


def _key(match: re.Match[str]) -> str:
    scheme = match.groupdict()["scheme"]
    return f"{scheme} {KEY}" if scheme else KEY


def _spellings(key: str) -> str:
    """Return a pattern for `key`, each of whose characters may be escaped for a URL, for JSON or for HTML."""
    if len(key) < MIN_KEY_CHARS:
        return rf"(?<!\w)(?-i:{re.escape(key)})(?!\w)"
    return "".join(map(_spelling, key))


def _spelling(character: str) -> str:
    code = ord(character)
    plain = r"\s{1,4}|\+" if character == " " else re.escape(character)
    named = {'"': "|&quot;", "'": "|&apos;", "&": "|&amp;", "<": "|&lt;", ">": "|&gt;"}
    escaped = rf"%(?:25){{0,3}}{code:02x}|\\{{1,4}}u{code:04x}|\\x{code:02x}"
    html = rf"&\#0{{0,4}}{code};|&\#x0{{0,4}}{code:x};{named.get(character, '')}"
    slash = "" if character.isalnum() else r"\\{0,4}"
    return rf"(?:{slash}(?:{plain})|{escaped}|{html})"


def _own_address(host: str, port: int | None) -> tuple[str, ...]:
    """Return the pattern of the engine's own host. A name without a dot counts only with a port."""
    if not host:
        return ()
    name = rf"\[?{re.escape(host)}\]?"
    needs_port = "." not in host and ":" not in host
    end = r":\d{1,5}\b" if needs_port else rf"\.?{_PORT}(?![\w-])"
    scheme = r"(?:\b[a-z][a-z0-9+.-]{1,15}://)?"
    path = r"(?:/[^\s\"'<>\\]{0,2048})?" if port or not needs_port else ""
    return (rf"(?P<own>{scheme}(?<![\w.-]){name}{end}{path})",)


@lru_cache(maxsize=1024)
def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def masked(data: bytes, secrets: Iterable[bytes]) -> bytes:
    """Return `data` with an asterisk for each byte of the `secrets` in it, so that its length remains.

    The secrets are in lower case, and found in either case.
    """
    lower = data.lower()
    for secret in secrets:
        at = lower.find(secret)
        while at >= 0:
            data = b"%b%b%b" % (data[:at], b"*" * len(secret), data[at + len(secret) :])
            at = lower.find(secret, at + len(secret))
    return data


class KeyMask:
    """Masks keys in a stream of bytes, also those that are split between its chunks.

    A chunk is passed on at once, except for an end that may be the beginning of a key.
    """

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._held = b""
        self._longest = max(map(len, secrets), default=0)

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes that can be passed on."""
        if not self._secrets:
            return chunk
        data = masked(self._held + chunk, self._secrets)
        end = data[-self._longest :].lower()
        size = max(_beginning_at_end(end, secret) for secret in self._secrets)
        self._held = data[len(data) - size :]
        return data[: len(data) - size]

    def close(self) -> bytes:
        """Return the rest."""
        rest, self._held = self._held, b""
        return rest


async def masked_chunks(
    chunks: AsyncGenerator[bytes], secrets: tuple[bytes, ...]
) -> AsyncGenerator[bytes]:
    """Yield a stream of bytes with the `secrets` masked. Closes `chunks` at its end."""
    mask = KeyMask(secrets)
    async with aclosing(chunks):
        async for chunk in chunks:
            if data := mask.feed(chunk):
                yield data
    if rest := mask.close():
        yield rest


def _beginning_at_end(data: bytes, secret: bytes) -> int:
    """Return the length of the longest beginning of `secret`, but not all of it, with which `data` ends."""
    at = max(0, len(data) - len(secret) + 1)
    while (at := data.find(secret[:1], at)) >= 0:
        if secret.startswith(data[at:]):
            return len(data) - at
        at += 1
    return 0
