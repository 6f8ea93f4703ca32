"""Conversion of a call to the engine request that vLLM's chat endpoint would make of it.

It uses vLLM's own request model, chat template, generation-config defaults, token limits and reasoning parser. The
model therefore gets the same request in process as over HTTP.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.exceptions import VLLMValidationError
from vllm.inputs import EngineInput, tokens_input
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.sampling_params import SamplingParams

from secondpass.service.engines.common.control_tokens import tokenizer_control_tokens
from secondpass.service.engines.common.prefix_ids import prefix_ids
from secondpass.service.engines.openai.token_cache import TokenCache
from secondpass.service.engines.openai.wire import Dialect, chat_body
from secondpass.service.engines.vllm.results import ReasoningSplitter
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CallRejected
from secondpass.strategies.api.values import ImagePart


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """Arguments of the engine client's `generate`: rendered prompt, sampling parameters and options."""

    prompt: EngineInput
    sampling: SamplingParams
    options: dict[str, Any]
    splitter: ReasoningSplitter | None


class Renderer:
    """Converts calls to engine requests; also the `Codec` of the model.

    `prompt` and `request` raise CallRejected for a prompt that fills the context window, and vLLM's own errors for a
    request that vLLM rejects.

    Args:
        client: vLLM's engine client.
        model: name of the model in requests.
        engine: name of the engine, for errors.
        online: the server's renderer, with the operator's chat template, its arguments and parsers.
    """

    def __init__(
        self, client: EngineClient, model: str, engine: str, online: OnlineRenderer
    ) -> None:
        config = client.model_config
        self.window: int = config.max_model_len
        self.dialect = Dialect(
            model=model,
            is_vllm=True,
            context_window=self.window,
            max_tokens="max_completion_tokens",
            detects_repetition="repetition_detection" in ChatCompletionRequest.model_fields,
        )
        self._engine, self._online, self._config = engine, online, config
        self._tokenizer = client.renderer.get_tokenizer()
        self.control_tokens = tokenizer_control_tokens(self._tokenizer, online.chat_template)
        self._cache = TokenCache()
        self._defaults: dict[str, Any] = config.get_diff_sampling_param()
        # As in vLLM's endpoint: only a limit set by the operator, not the model's default.
        self._operator_max_tokens: int | None = (
            self._defaults.get("max_tokens")
            if config.generation_config not in ("auto", "vllm")
            else config.override_generation_config.get("max_new_tokens")
        )

    async def encode(self, text: str, call: Call) -> list[int]:
        """Return the token ids of `text`, without special tokens around it."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    async def decode(self, ids: Sequence[int], call: Call) -> str:
        """Return the text of `ids`, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    async def prompt(self, call: Call) -> EngineInput:
        """Return the prompt of `call`, prefix included; text prompts are cached."""
        if any(isinstance(part, ImagePart) for m in call.messages for part in m.content or ()):
            return self._check_length(await self._render(call), call)
        ids = await self._cache.get(_cache_key(call), lambda: self._render_ids(call))
        prefix = await prefix_ids(call, self)
        return self._check_length(tokens_input([*ids, *prefix], cache_salt=call.cache_salt), call)

    async def request(self, call: Call, body: dict[str, Any]) -> EngineRequest:
        """Return the engine request for `call`; `body` is its body for /chat/completions."""
        prompt = await self.prompt(call)
        ids: list[int] = prompt["prompt_token_ids"]
        request = ChatCompletionRequest.model_validate(body)
        parsers = self._parsers(request)
        if parsers and (self._online.use_harmony or _adjusts_requests(parsers[0])):
            request = parsers[0].adjust_request(request=request)
        limit = get_max_tokens(
            self.window,
            request.max_completion_tokens,
            len(ids),
            self._defaults,
            self._operator_max_tokens,
        )
        options: dict[str, Any] = {"session_id": request.session_id}
        if parsers and parsers[0].reasoning_parser is not None:
            template = self._online.effective_chat_template_kwargs(request)
            options["reasoning_parser_kwargs"] = {"chat_template_kwargs": template}
            options["reasoning_ended"] = request.resolve_reasoning_ended(parsers[0], ids)
        return EngineRequest(
            prompt,
            request.to_sampling_params(limit, self._defaults),
            options,
            ReasoningSplitter(parsers, request, ids) if parsers else None,
        )

    def _parsers(self, request: ChatCompletionRequest) -> list[Any]:
        make_parser = self._online.parser
        if make_parser is None:
            return []
        template = self._online.effective_chat_template_kwargs(request)
        return [
            make_parser(
                self._tokenizer,
                request.tools,
                chat_template_kwargs=template,
                model_config=self._config,
            )
            for _ in range(request.n or 1)
        ]

    async def _render_ids(self, call: Call) -> Sequence[int]:
        ids: list[int] = (await self._render(call))["prompt_token_ids"]
        return ids

    async def _render(self, call: Call) -> EngineInput:
        # The prompt does not depend on the limit. Without one, vLLM would read its deprecated field.
        body = chat_body(call, self.dialect) | {self.dialect.max_tokens: 1}
        try:
            rendered = await self._online.render_chat(ChatCompletionRequest.model_validate(body))
        except VLLMValidationError as error:
            if error.parameter in ("input_tokens", "input_text"):
                unit = "tokens" if error.parameter == "input_tokens" else "characters"
                raise self._too_long(call, f"{error.value} {unit} or more") from error
            raise
        if isinstance(rendered, ErrorResponse):
            raise VLLMValidationError(rendered.error.message)
        _, (prompt,) = rendered
        return prompt

    def _check_length(self, prompt: EngineInput, call: Call) -> EngineInput:
        """Return `prompt`; raise CallRejected if it leaves no room for a completion."""
        if (length := len(prompt["prompt_token_ids"])) >= self.window:
            raise self._too_long(call, f"{length} tokens")
        return prompt

    def _too_long(self, call: Call, length: str) -> CallRejected:
        return CallRejected(
            f"the prompt has {length}, and the model's context holds {self.window} tokens of prompt and "
            "completion: shorten the messages, or serve the model with a larger --max-model-len",
            engine=self._engine,
            role=call.role,
        )


def _cache_key(call: Call) -> Hashable:
    """Return the fields of `call` that determine its rendered prompt."""
    thinking = call.thinking is False or bool(call.labels)
    prefix = call.prefix if isinstance(call.prefix, str) else None
    return call.messages, thinking, prefix, call.schema


def _adjusts_requests(parser: Any) -> bool:
    """Return whether vLLM's endpoint lets this parser adjust a request without tools."""
    return bool(parser.always_adjust_request) or parser.reasoning_parser is not None
