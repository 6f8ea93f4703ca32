"""Engine over vLLM's engine client in this process, without HTTP.

asyncio only. Importing this module imports vLLM, so import it only to serve this engine.
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
from dataclasses import replace
from typing import get_args

import anyio
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.exceptions import VLLMError
from vllm.outputs import RequestOutput
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.v1.engine.exceptions import EngineGenerateError

from secondpass.service.common.cache_salt import with_cache_salt
from secondpass.service.engines.common.health import DEFECT
from secondpass.service.engines.common.status_codes import error_for_status, excerpt
from secondpass.service.engines.common.utf8_repair import Utf8Repair, incomplete_character
from secondpass.service.engines.openai.labels import label_body, label_variants, sum_variants
from secondpass.service.engines.openai.wire import chat_body
from secondpass.service.engines.vllm.asgi import ASGIApp, forward_to_app
from secondpass.service.engines.vllm.render import EngineRequest, Renderer
from secondpass.service.engines.vllm.results import ResultReader
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import Capability, ImagePart, Role

_VLLM_ERRORS = (VLLMError, ValueError, NotImplementedError, TimeoutError)


class VllmEngine:
    """An engine over a vLLM engine client.

    Args:
        name: name of the engine in the configuration.
        client: vLLM's engine client; the caller owns it.
        model: name of the model that it serves.
        online: the server's renderer, with the operator's chat template and parsers. By default, vLLM's default
            template and the reasoning parser of the client's configuration.
        plain: ASGI application for forwarded requests, usually vLLM's own; None if there is none.
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
        self._schedules_by_priority = client.vllm_config.scheduler_config.policy == "priority"
        self._why_not_ready: str | None = "not probed yet"
        self._was_ready = False
        self._running: set[str] = set()

    @property
    def why_not_ready(self) -> str | None:
        """Reason why the engine is not ready, for an operator; None when ready.

        A dead engine core is reported without another health check.
        """
        if self._client is None:
            return "closed"
        if self.has_died:
            return "the engine core has died: see vLLM's log for the cause, and restart the process"
        return self._why_not_ready

    @property
    def has_died(self) -> bool:
        """True once the engine core has died; only a restart of the process helps."""
        return self._was_ready and self._client is not None and self._client.errored

    @property
    def ready(self) -> bool:
        """True if the last health check succeeded and the engine core has not died since."""
        return self.why_not_ready is None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All capabilities except `reward` and `text`; empty until the first health check succeeds."""
        every: frozenset[Capability] = frozenset(get_args(Capability))
        return every - {"reward", "text"} if self._was_ready else frozenset()

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and completion together; None until the first health check succeeds."""
        return self._renderer.window if self._was_ready else None

    @property
    def template_tokens(self) -> int | None:
        """Return None: prompts are counted exactly."""
        return None

    @property
    def control_tokens(self) -> frozenset[str]:
        """Control tokens of the model's tokenizer, beyond those of the known model families."""
        return self._renderer.control_tokens

    async def start(self) -> None:
        """Check the health of the engine core. It only reads a flag, so it is cheap."""
        if self._client is None:
            return
        try:
            await self._client.check_health()
        except VLLMError as failure:
            self._why_not_ready = excerpt(str(failure))
        except Exception:
            self._why_not_ready = DEFECT
            raise
        else:
            self._why_not_ready = None
            self._was_ready = True

    async def aclose(self) -> None:
        """Abort running calls and reject new ones. The client keeps running: the caller owns it.

        The reference to the client is dropped, because its destructor fails at interpreter shutdown.
        """
        client, self._client = self._client, None
        if client is not None:
            with anyio.CancelScope(shield=True), suppress(VLLMError):
                await client.abort(list(self._running))

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Yield deltas as the engine core generates them; closing the generator aborts the request.

        Raises:
            CallRejected: vLLM rejected the call.
            EngineUnavailable: the engine is not ready, or its core has died or failed.
            StreamInterrupted: vLLM ended the request before it finished, for example because it was aborted.
        """
        client = self._client_for(call)
        with self._translating_errors(call.role):
            if call.labels:
                yield await self._read_labels(call, client)
                return
            tail = await incomplete_character(call, self._renderer)
            if tail and call.sampling.stop:
                raise self._rejected(
                    call, "stop: not supported after a prefix that ends inside a character"
                )
            repair = Utf8Repair(call, self._renderer, tail) if tail else None
            streaming = {"stream": True, "stream_interval": call.stream_interval}
            request = await self._renderer.request(
                call, chat_body(call, self._renderer.dialect) | streaming
            )
            reader, splitter = ResultReader(call, self.name), request.splitter
            async with self._generating(client, call, request, reader) as results:
                async for result in results:
                    for delta in reader.read(result):
                        repaired = await repair.apply(delta) if repair else delta
                        yield splitter.split(repaired) if splitter else repaired
            reader.finish()

    async def _read_labels(self, call: Call, client: EngineClient) -> Delta:
        variants = await label_variants(call, self._renderer, self.name)
        ids = [token for tokens in variants.values() for token in tokens]
        request = await self._renderer.request(
            call, label_body(call, self._renderer.dialect, None, ids)
        )
        reader = ResultReader(call, self.name)
        async with self._generating(client, call, request, reader) as results:
            async for result in results:
                for delta in reader.read(result):
                    probabilities = {
                        t: math.exp(p.logprob) for t, p in result.outputs[0].logprobs[0].items()
                    }
                    return Delta(
                        tokens=delta.tokens,
                        finish_reason="stop",
                        usage=delta.usage,
                        labels=sum_variants(probabilities, variants),
                    )
        raise StreamInterrupted("no reply to the label read", engine=self.name, role=call.role)

    @asynccontextmanager
    async def _generating(
        self, client: EngineClient, call: Call, request: EngineRequest, reader: ResultReader
    ) -> AsyncIterator[AsyncGenerator[RequestOutput]]:
        """Yield the engine's results; leaving the block aborts a request that has not finished."""
        request_id = f"secondpass-{uuid.uuid4().hex}"
        trace = None
        if call.traceparent is not None and await client.is_tracing_enabled():
            trace = {"traceparent": call.traceparent}
        priority = -1 if call.labels else call.index
        results = client.generate(
            request.prompt,
            request.sampling,
            request_id,
            trace_headers=trace,
            priority=priority if self._schedules_by_priority else 0,
            **request.options,
        )
        self._running.add(request_id)
        try:
            yield results
        finally:
            self._running.discard(request_id)
            if not reader.is_finished:
                # A dead core raises VLLMError; then nothing is left to abort.
                with anyio.CancelScope(shield=True), suppress(VLLMError):
                    await results.aclose()
                    # Closing the generator does not abort a request that was cancelled while being submitted.
                    await client.abort(request_id)

    async def count_prompt(self, call: Call) -> int:
        """Return the number of prompt tokens of `call`, prefix included.

        Raises:
            CallRejected: the prompt does not fit the context window.
            EngineUnavailable: the engine is not ready.
        """
        self._client_for(call)
        with self._translating_errors(call.role):
            return len((await self._renderer.prompt(call))["prompt_token_ids"])

    def forward(self, request: PlainRequest) -> AbstractAsyncContextManager[PlainReply]:
        """Forward `request` to vLLM's handlers in this process, with its `cache_salt` in the body.

        Raises EngineUnavailable if the engine has no server application.
        """
        if self._plain is None:
            raise EngineUnavailable(
                f"engine {self.name!r} has no server for plain requests", engine=self.name
            )
        if request.cache_salt is not None:
            request = replace(request, body=with_cache_salt(request.body, request.cache_salt))
        return forward_to_app(self._plain, request, engine=self.name)

    def _client_for(self, call: Call) -> EngineClient:
        """Return the client; raise if it is not ready or cannot serve `call`."""
        if self._client is None or not self.ready:
            message = f"engine {self.name!r} is not ready: {self.why_not_ready}"
            raise EngineUnavailable(message, engine=self.name, role=call.role)
        if call.prefix is not None and call.schema is not None:
            raise self._rejected(call, "schema: not supported together with a prefix")
        if isinstance(call.prefix, tuple) and any(
            isinstance(part, ImagePart) for m in call.messages for part in m.content or ()
        ):
            raise self._rejected(
                call, "prefix: token ids are not supported for a prompt with images"
            )
        return self._client

    def _rejected(self, call: Call, why: str) -> CallRejected:
        return CallRejected(why, engine=self.name, role=call.role)

    @contextmanager
    def _translating_errors(self, role: Role) -> Iterator[None]:
        """Translate vLLM's errors as its own server does, by HTTP status."""
        try:
            yield
        except _VLLM_ERRORS as failure:
            cause = failure.__cause__ if isinstance(failure, EngineGenerateError) else None
            error = create_error_response(cause if isinstance(cause, Exception) else failure).error
            raise error_for_status(
                error.code, error.message, engine=self.name, role=role
            ) from failure


def _default_renderer(client: EngineClient) -> OnlineRenderer:
    return OnlineRenderer(
        client.model_config,
        client.renderer,
        request_logger=None,
        chat_template=None,
        chat_template_content_format="auto",
        reasoning_parser=client.vllm_config.structured_outputs_config.reasoning_parser,
    )
