"""Prompts as token ids: rendered once by the engine itself, then remembered.

A completion is continued from its tokens because text does not always re-tokenise to itself; so the tokens before
it must be known too. The same ids tell what a prompt will cost.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeAlias

import anyio

from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.routing import RoutingHeaders
from secondpass.service.engines.openai.wire import Dialect, chat_body
from secondpass.strategies.api.engine import Call

MAX_REMEMBERED_TOKENS = 1_000_000

Ids: TypeAlias = "array[int]"


class TokenCache:
    """Token ids by key, least recently used out first, bounded by their number (4 bytes each).

    A key is any value that its `repr` tells from all others; only a digest of it is kept, since a conversation may
    hold megabytes of images. Callers that ask for one key at the same time share one reading of it.
    """

    def __init__(self, max_tokens: int = MAX_REMEMBERED_TOKENS) -> None:
        self.max_tokens = max_tokens
        self.held = 0
        self._entries: OrderedDict[bytes, Ids] = OrderedDict()
        self._pending: dict[bytes, anyio.Event] = {}

    def put(self, key: Hashable, ids: Sequence[int]) -> Ids:
        """Remember `ids`, and forget as many others as that needs."""
        return self._put(_digest(key), ids)

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Sequence[int]]]) -> Ids:
        """The ids of `key`, from `read` where they are not known. Raises what `read` raises."""
        digest = _digest(key)
        while (known := self._entries.get(digest)) is None and digest in self._pending:
            await self._pending[digest].wait()
        if known is not None:
            self._entries.move_to_end(digest)
            return known
        arrived = self._pending[digest] = anyio.Event()
        try:
            return self._put(digest, await read())
        finally:
            del self._pending[digest]
            arrived.set()

    def _put(self, key: bytes, ids: Sequence[int]) -> Ids:
        if (known := self._entries.pop(key, None)) is not None:
            self.held -= len(known)
        entry = self._entries[key] = array("I", ids)
        self.held += len(entry)
        while self.held > self.max_tokens and len(self._entries) > 1:
            _, oldest = self._entries.popitem(last=False)
            self.held -= len(oldest)
        return entry


class Tokenizer:
    """vLLM's /tokenize, with a memory, and /detokenize."""

    def __init__(
        self, connection: Connection, dialect: Dialect, routing: RoutingHeaders | None = None
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        self._routing = routing or RoutingHeaders()
        self._cache = TokenCache()

    async def render(self, call: Call) -> Ids:
        """The prompt of `call` as /chat/completions would render it; an open text prefix is part of it."""
        return await self._cache.get(self._key(call), lambda: self._render(call))

    def remember(self, call: Call, ids: Sequence[int]) -> None:
        """Take in a rendering that came with a reply."""
        self._cache.put(self._key(call), ids)

    async def split(self, text: str, call: Call) -> Ids:
        """The tokens of `text` alone, without special ones around it."""
        body = {"model": self._dialect.model, "prompt": text, "add_special_tokens": False}
        return await self._cache.get(text, lambda: self._read(body, call))

    async def join(self, ids: Sequence[int], call: Call) -> str:
        """The text of `ids`, special tokens included."""
        body = {"model": self._dialect.model, "tokens": list(ids)}
        reply = await self._fetch("detokenize", body, call)
        with self._connection.readable(call.role):
            return str(reply["prompt"])

    async def _render(self, call: Call) -> Sequence[int]:
        chat = chat_body(call, self._dialect)
        rendered = (
            "model",
            "messages",
            "add_generation_prompt",
            "continue_final_message",
            "chat_template_kwargs",
        )
        body = {name: chat[name] for name in rendered if name in chat}
        return await self._read(body, call)

    async def _read(self, body: dict[str, Any], call: Call) -> Sequence[int]:
        reply = await self._fetch("tokenize", body, call)
        with self._connection.readable(call.role):
            return array("I", reply["tokens"])

    async def _fetch(self, route: str, body: dict[str, Any], call: Call) -> dict[str, Any]:
        url = f"{self._connection.root}/{route}"
        headers = self._routing.of_call(call)
        return await self._connection.fetch("POST", url, body, headers=headers, role=call.role)

    def _key(self, call: Call) -> Hashable:
        thinking = call.thinking is False or bool(call.labels)
        return call.messages, thinking, call.prefix if isinstance(call.prefix, str) else None


def _digest(key: Hashable) -> bytes:
    return hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
