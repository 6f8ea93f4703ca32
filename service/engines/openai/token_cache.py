"""Tokenization of prompts by the server, with a cache.

Text does not always re-tokenize to the same tokens, so a completion is continued from its token ids. That needs the
token ids of the prompt as well. They also give the exact number of prompt tokens.
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
from secondpass.service.engines.openai.usage import token_ids_of
from secondpass.service.engines.openai.wire import Dialect, chat_body
from secondpass.strategies.api.engine import Call

MAX_CACHED_TOKENS = 1_000_000

Ids: TypeAlias = "array[int]"


class TokenCache:
    """LRU cache of token ids, limited to `max_tokens` ids of 4 bytes each.

    Keys are compared by their `repr`. Only a digest is stored, because a conversation may contain megabytes of images.
    Concurrent callers with the same key share one read. `size` is the number of cached ids.
    """

    def __init__(self, max_tokens: int = MAX_CACHED_TOKENS) -> None:
        self.max_tokens = max_tokens
        self.size = 0
        self._entries: OrderedDict[bytes, Ids] = OrderedDict()
        self._pending: dict[bytes, anyio.Event] = {}

    def put(self, key: Hashable, ids: Sequence[int]) -> Ids:
        """Store `ids` under `key`, evict the least recently used entries, and return the stored ids."""
        return self._put(_digest(key), ids)

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Sequence[int]]]) -> Ids:
        """Return the ids of `key`, from `read` if they are not cached. Raises what `read` raises."""
        digest = _digest(key)
        while (cached := self._entries.get(digest)) is None and digest in self._pending:
            await self._pending[digest].wait()
        if cached is not None:
            self._entries.move_to_end(digest)
            return cached
        arrived = self._pending[digest] = anyio.Event()
        try:
            return self._put(digest, await read())
        finally:
            del self._pending[digest]
            arrived.set()

    def _put(self, key: bytes, ids: Sequence[int]) -> Ids:
        if (previous := self._entries.pop(key, None)) is not None:
            self.size -= len(previous)
        entry = self._entries[key] = array("I", ids)
        self.size += len(entry)
        while self.size > self.max_tokens and len(self._entries) > 1:
            _, oldest = self._entries.popitem(last=False)
            self.size -= len(oldest)
        return entry


class Tokenizer:
    """`Codec` over vLLM's /tokenize, with a cache, and /detokenize."""

    def __init__(
        self, connection: Connection, dialect: Dialect, routing: RoutingHeaders | None = None
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        self._routing = routing or RoutingHeaders()
        self._cache = TokenCache()

    async def render(self, call: Call) -> Ids:
        """Return the prompt of `call` as /chat/completions renders it, including a text prefix."""
        return await self._cache.get(self._key(call), lambda: self._render(call))

    def remember(self, call: Call, ids: Sequence[int]) -> None:
        """Cache the prompt token ids of a reply to `call`."""
        self._cache.put(self._key(call), ids)

    async def encode(self, text: str, call: Call) -> Ids:
        """Return the token ids of `text`, without special tokens around it."""
        body = {"model": self._dialect.model, "prompt": text, "add_special_tokens": False}
        return await self._cache.get(text, lambda: self._read(body, call))

    async def decode(self, ids: Sequence[int], call: Call) -> str:
        """Return the text of `ids`, special tokens included."""
        body = {"model": self._dialect.model, "tokens": list(ids)}
        reply = await self._fetch("detokenize", body, call)
        with self._connection.parsing(call.role):
            text = reply["prompt"]
            if not isinstance(text, str):
                raise TypeError("the text of the tokens is not a string")
            return text

    async def _render(self, call: Call) -> Sequence[int]:
        chat = chat_body(call, self._dialect)
        fields = (
            "model",
            "messages",
            "add_generation_prompt",
            "continue_final_message",
            "chat_template_kwargs",
        )
        body = {name: chat[name] for name in fields if name in chat}
        return await self._read(body, call)

    async def _read(self, body: dict[str, Any], call: Call) -> Sequence[int]:
        reply = await self._fetch("tokenize", body, call)
        with self._connection.parsing(call.role):
            return array("I", token_ids_of(reply["tokens"]))

    async def _fetch(self, route: str, body: dict[str, Any], call: Call) -> dict[str, Any]:
        url = f"{self._connection.root}/{route}"
        headers = self._routing.of_call(call)
        return await self._connection.fetch("POST", url, body, headers=headers, role=call.role)

    def _key(self, call: Call) -> Hashable:
        thinking = call.thinking is False or bool(call.labels)
        return call.messages, thinking, call.prefix if isinstance(call.prefix, str) else None


def _digest(key: Hashable) -> bytes:
    return hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
