"""vLLM's engine in this process: tokens and text straight from its client, no HTTP between.

asyncio only. Importing this module imports vLLM: whoever serves another engine must not.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from typing import get_args

import anyio
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.exceptions import VLLMError
from vllm.outputs import RequestOutput
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.v1.engine.exceptions import EngineGenerateError

from secondpass.service.engines.common.status_codes import refusal, short
from secondpass.service.engines.common.utf8_seam import Seam, open_character
from secondpass.service.engines.openai.labels import label_body, label_variants, summed
from secondpass.service.engines.openai.wire import chat_body
from secondpass.service.engines.vllm.asgi import ASGIApp, forwarded
from secondpass.service.engines.vllm.render import EngineRequest, Renderer
from secondpass.service.engines.vllm.results import Reader
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import Capability, ImagePart, Role

_FOREIGN = (VLLMError, ValueError, NotImplementedError, TimeoutError)


class VllmEngine:
    """The engine behind `client`, which serves `model`.

    `online` is the renderer of the server that the client belongs to, with the operator's chat template and parsers;
    without it vLLM's defaults hold, and the reasoning parser of the client's own configuration. `plain` is the ASGI
    application that answers forwarded requests: vLLM's own handlers. `why_not_ready` says why, for an operator.
    """

    def __init__(
        self,
        name: str,
        client: EngineClient,
        model: str,
        *,
        online: OnlineRenderer | None = None,
        plain: ASGIApp | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self._client: EngineClient | None = client
        self._plain = plain
        self._renderer = Renderer(client, model, name, online or _default_renderer(client))
        self._by_priority = client.vllm_config.scheduler_config.policy == "priority"
        self._why_not_ready: str | None = "not asked yet"
        self._was_ready = False
        self._running: set[str] = set()

    @property
    def why_not_ready(self) -> str | None:
        """None when ready. A core that has died shows at once, whoever asked last."""
        if self._client is None:
            return "closed"
        if self.has_died:
            return "the engine core has died: vLLM's log says of what, and only a new process helps"
        return self._why_not_ready

    @property
    def has_died(self) -> bool:
        """Whether the engine core is gone, for good."""
        return self._was_ready and self._client is not None and self._client.errored

    @property
    def ready(self) -> bool:
        """Whether the engine core was alive when it was asked, and has not died since."""
        return self.why_not_ready is None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All of them but a pooling model's, once the engine has answered."""
        every: frozenset[Capability] = frozenset(get_args(Capability))
        return every - {"reward", "text"} if self._was_ready else frozenset()

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and completion together."""
        return self._renderer.window if self._was_ready else None

    async def start(self) -> None:
        """Ask whether the engine core is alive: a look at a flag, cheap enough for every second."""
        if self._client is None:
            return
        try:
            await self._client.check_health()
        except VLLMError as failure:
            self._why_not_ready = short(str(failure))
        else:
            self._why_not_ready = None
            self._was_ready = True

    async def aclose(self) -> None:
        """Abort what runs, and take no more calls. The client goes on: it belongs to whoever made it.

        It is let go of, for its destructor fails when it comes as late as the interpreter's end.
        """
        client, self._client = self._client, None
        if client is not None:
            with anyio.CancelScope(shield=True), suppress(VLLMError):
                await client.abort(list(self._running))

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Deltas as the engine core writes them; closing the generator aborts the request there at once.

        Raises CallRejected for what vLLM refuses, EngineUnavailable when the core is dead or fails, StreamInterrupted when
        somebody else aborts the request.
        """
        client = self._client_for(call)
        with self._in_our_words(call.role):
            if call.labels:
                yield await self._read_labels(call, client)
                return
            tail = await open_character(call, self._renderer)
            if tail and call.sampling.stop:
                raise self._rejected(
                    call, "a prefix ends inside a character: no stop strings after it"
                )
            seam = Seam(call, self._renderer, tail) if tail else None
            streamed = {"stream": True, "stream_interval": call.stream_interval}
            request = await self._renderer.request(
                call, chat_body(call, self._renderer.dialect) | streamed
            )
            reader, splitter = Reader(call, self.name), request.splitter
            async with self._generating(client, call, request, reader) as results:
                async for result in results:
                    for delta in reader.read(result):
                        mended = await seam.mend(delta) if seam else delta
                        yield splitter.split(mended) if splitter else mended
            reader.finish()

    async def _read_labels(self, call: Call, client: EngineClient) -> Delta:
        variants = await label_variants(call, self._renderer, self.name)
        ids = [token for tokens in variants.values() for token in tokens]
        request = await self._renderer.request(
            call, label_body(call, self._renderer.dialect, None, ids)
        )
        reader = Reader(call, self.name)
        async with self._generating(client, call, request, reader) as results:
            async for result in results:
                for delta in reader.read(result):
                    seen = {
                        t: math.exp(p.logprob) for t, p in result.outputs[0].logprobs[0].items()
                    }
                    return Delta(
                        tokens=delta.tokens,
                        finish_reason="stop",
                        usage=delta.usage,
                        labels=summed(seen, variants),
                    )
        raise StreamInterrupted("no reply to a label call", engine=self.name, role=call.role)

    @asynccontextmanager
    async def _generating(
        self, client: EngineClient, call: Call, request: EngineRequest, reader: Reader
    ) -> AsyncIterator[AsyncGenerator[RequestOutput]]:
        """The engine's results; a request that is not read to its end is aborted when the block is left."""
        request_id = f"secondpass-{uuid.uuid4().hex}"
        trace = None
        if call.traceparent is not None and await client.is_tracing_enabled():
            trace = {"traceparent": call.traceparent}
        first = -1 if call.labels else call.index
        results = client.generate(
            request.prompt,
            request.sampling,
            request_id,
            trace_headers=trace,
            priority=first if self._by_priority else 0,
            **request.options,
        )
        self._running.add(request_id)
        try:
            yield results
        finally:
            self._running.discard(request_id)
            if not reader.is_finished:
                # A core that died on the way has no request left to abort.
                with anyio.CancelScope(shield=True), suppress(VLLMError):
                    await results.aclose()
                    # By name again: the generator does not know of a request that it was cancelled in handing over.
                    await client.abort(request_id)

    async def count_prompt(self, call: Call) -> int:
        """Prompt tokens of `call`, its prefix included. Raises CallRejected for more than the context holds."""
        self._client_for(call)
        with self._in_our_words(call.role):
            return len((await self._renderer.prompt(call))["prompt_token_ids"])

    def forward(self, request: PlainRequest) -> AbstractAsyncContextManager[PlainReply]:
        """The reply of vLLM's own handlers in this process. Raises EngineUnavailable where there are none."""
        if self._plain is None:
            raise EngineUnavailable("no server of vLLM's is at hand", engine=self.name)
        return forwarded(self._plain, request, engine=self.name)

    def _client_for(self, call: Call) -> EngineClient:
        """The client, if it can serve `call`."""
        if self._client is None or not self.ready:
            why = f"not ready: {self.why_not_ready}"
            raise EngineUnavailable(why, engine=self.name, role=call.role)
        if call.prefix is not None and call.schema is not None:
            raise self._rejected(call, "a schema constrains whole replies, not continuations")
        if isinstance(call.prefix, tuple) and any(
            isinstance(part, ImagePart) for m in call.messages for part in m.content or ()
        ):
            raise self._rejected(call, "a prompt with images is not continued from token ids")
        return self._client

    def _rejected(self, call: Call, why: str) -> CallRejected:
        return CallRejected(why, engine=self.name, role=call.role)

    @contextmanager
    def _in_our_words(self, role: Role) -> Iterator[None]:
        """What vLLM raises, as the error that its server's status for it stands for."""
        try:
            yield
        except _FOREIGN as failure:
            cause = failure.__cause__ if isinstance(failure, EngineGenerateError) else None
            error = create_error_response(cause if isinstance(cause, Exception) else failure).error
            raise refusal(error.code, error.message, engine=self.name, role=role) from failure


def _default_renderer(client: EngineClient) -> OnlineRenderer:
    return OnlineRenderer(
        client.model_config,
        client.renderer,
        request_logger=None,
        chat_template=None,
        chat_template_content_format="auto",
        reasoning_parser=client.vllm_config.structured_outputs_config.reasoning_parser,
    )
