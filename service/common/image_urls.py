"""Image URLs in requests with a strategy: data, or an https URL of an allowed host.

The engine fetches a URL, in the operator's network and several times a run. A client must not choose what it reaches.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from secondpass.service.common.errors import InvalidRequest
from secondpass.strategies.api.values import ImagePart, Message

MAX_URL = 8192
"""Maximum characters of an https URL."""

_DATA = re.compile(
    r"data:image/(?:avif|bmp|gif|heic|heif|jpeg|jpg|png|tiff|webp);base64,", re.IGNORECASE
)
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_HTTPS = re.compile(r"https://([a-z0-9.-]+)(?::443)?(?:[/?][!-~]*)?", re.IGNORECASE)


def check_images(messages: Sequence[Message], hosts: Collection[str], *, field: str) -> None:
    """Raise InvalidRequest for the first image that is neither data nor on one of `hosts`.

    `field` is the path of the messages in the request.
    """
    for position, message in enumerate(messages):
        parts = message.content if isinstance(message.content, tuple) else ()
        for number, part in enumerate(parts):
            if isinstance(part, ImagePart) and (problem := _problem(part.image_url.url, hosts)):
                at = f"{field}.{position}.content.{number}.image_url.url"
                raise InvalidRequest(problem, field=at)


def _problem(url: str, hosts: Collection[str]) -> str | None:
    if start := _DATA.match(url):
        data = url[start.end() :]
        is_base64 = bool(data) and len(data) % 4 == 0 and _BASE64.fullmatch(data)
        return None if is_base64 else "the data of the image must be base64"
    # A backslash starts the path in browsers and a part of the host elsewhere.
    found = _HTTPS.fullmatch(url) if len(url) <= MAX_URL and "\\" not in url else None
    if found and found[1].lower() in hosts:
        return None
    return (
        "must be a data: URL of an image in base64, or an https URL of a host "
        "in the operator's setting allow_image_hosts"
    )
