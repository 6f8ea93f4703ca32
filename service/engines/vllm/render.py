"""A call as vLLM's own chat endpoint hands it to its engine: the same JSON body, without the wire between.

The request model, the chat template, the defaults from the model's generation config, the token limits and the
parser that splits reasoning from text are vLLM's own, so that both ways to the engine say the same to the model.
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

from secondpass.service.engines.common.prefix_ids import prefix_ids
from secondpass.service.engines.openai.token_cache import TokenCache
from secondpass.service.engines.openai.wire import Dialect, chat_body
from secondpass.service.engines.vllm.results import ReasoningSplitter
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CallRejected
from secondpass.strategies.api.values import ImagePart


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What the engine is given: a rendered prompt, how to sample, and further arguments of `generate`."""

    prompt: EngineInput
    sampling: SamplingParams
    options: dict[str, Any]
    splitter: ReasoningSplitter | None


class Renderer:
    """Makes the requests of calls to the engine behind `client`; is also the codec of its model.

    `online` holds what the operator chose for the server: chat template, its arguments, parsers. All methods raise
    CallRejected for a prompt that leaves no room, and what vLLM raises for what it refuses.
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
        )
        self._engine, self._online, self._config = engine, online, config
        self._tokenizer = client.renderer.get_tokenizer()
        self._cache = TokenCache()
        self._defaults: dict[str, Any] = config.get_diff_sampling_param()
        # As in vLLM's endpoint: a limit that the operator set, and not only the model's own.
        self._most_tokens: int | None = (
            self._defaults.get("max_tokens")
            if config.generation_config not in ("auto", "vllm")
            else config.override_generation_config.get("max_new_tokens")
        )

    async def split(self, text: str, call: Call) -> list[int]:
        """The tokens of `text` alone, without special ones around it."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    async def join(self, ids: Sequence[int], call: Call) -> str:
        """The text of `ids`, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    async def prompt(self, call: Call) -> EngineInput:
        """The prompt with the prefix that the call holds; text is rendered once and then remembered."""
        if any(isinstance(part, ImagePart) for m in call.messages for part in m.content or ()):
            return self._fitting(await self._render(call), call)
        ids = await self._cache.get(_key(call), lambda: self._render_ids(call))
        held = await prefix_ids(call, self)
        return self._fitting(tokens_input([*ids, *held], cache_salt=call.cache_salt), call)

    async def request(self, call: Call, body: dict[str, Any]) -> EngineRequest:
        """`call` ready for `generate`; `body` is what would go to /chat/completions."""
        prompt = await self.prompt(call)
        ids: list[int] = prompt["prompt_token_ids"]
        request = ChatCompletionRequest.model_validate(body)
        parsers = self._parsers(request)
        if parsers and (self._online.use_harmony or _adjusts(parsers[0])):
            request = parsers[0].adjust_request(request=request)
        limit = get_max_tokens(
            self.window,
            request.max_completion_tokens,
            len(ids),
            self._defaults,
            self._most_tokens,
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
        make = self._online.parser
        if make is None:
            return []
        template = self._online.effective_chat_template_kwargs(request)
        return [
            make(
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
        # The limit is the call's own business, and would be read as vLLM's deprecated field if it were left out.
        body = chat_body(call, self.dialect) | {self.dialect.max_tokens: 1}
        try:
            rendered = await self._online.render_chat(ChatCompletionRequest.model_validate(body))
        except VLLMValidationError as refusal:
            if refusal.parameter in ("input_tokens", "input_text"):
                unit = "tokens" if refusal.parameter == "input_tokens" else "characters"
                raise self._too_long(call, f"{refusal.value} {unit} or more") from refusal
            raise
        if isinstance(rendered, ErrorResponse):
            raise VLLMValidationError(rendered.error.message)
        _, (prompt,) = rendered
        return prompt

    def _fitting(self, prompt: EngineInput, call: Call) -> EngineInput:
        if (length := len(prompt["prompt_token_ids"])) >= self.window:
            raise self._too_long(call, f"{length} tokens")
        return prompt

    def _too_long(self, call: Call, length: str) -> CallRejected:
        return CallRejected(
            f"the prompt has {length}, and the model's context holds {self.window} with the reply: "
            "shorten the messages, or serve the model with a longer --max-model-len",
            engine=self._engine,
            role=call.role,
        )


def _key(call: Call) -> Hashable:
    """What decides the rendering of a call."""
    thinking = call.thinking is False or bool(call.labels)
    prefix = call.prefix if isinstance(call.prefix, str) else None
    return call.messages, thinking, prefix, call.schema


def _adjusts(parser: Any) -> bool:
    """Whether vLLM's endpoint lets this parser change a request without tools."""
    return bool(parser.always_adjust_request) or parser.reasoning_parser is not None
