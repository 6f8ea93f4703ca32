"""Tokens of the scripted engine: words with the whitespace before them."""

from __future__ import annotations

import hashlib
import re

_TOKEN = re.compile(r"\s*\S+|\s+$")


def tokens_of(text: str) -> list[str]:
    """Return the tokens of `text`: words with the whitespace before them. They join to `text`."""
    return _TOKEN.findall(text)


def token_id(token: str) -> int:
    """Return a stable 31-bit id for a token."""
    return int.from_bytes(hashlib.blake2s(token.encode(), digest_size=4).digest()) >> 1
