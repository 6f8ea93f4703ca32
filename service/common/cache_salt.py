"""vLLM's `cache_salt` in the body of a forwarded request."""

from __future__ import annotations

import hashlib

from secondpass.service.common.errors import Malformed
from secondpass.service.common.json_text import with_member

FIELD = "cache_salt"


def with_cache_salt(body: bytes, salt: str) -> bytes:
    """Return the text of a JSON object with the `salt` of a tenant. All other text is unchanged.

    A client's own salt separates its requests further: it is hashed together with that of the tenant, so that no client can
    name the salt of another tenant.

    Raises:
        Malformed: The client's salt is not a string.
    """

    def salt_after(own: object) -> str:
        if own is None:
            return salt
        if not isinstance(own, str):
            raise Malformed("must be a string", field=FIELD)
        text = f"{salt}\n{own}".encode(errors="surrogatepass")
        return hashlib.sha256(text).hexdigest()

    return with_member(body, FIELD, salt_after)
