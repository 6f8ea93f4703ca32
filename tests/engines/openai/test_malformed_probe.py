"""Any reply to a probe is an error with a reason, or a dialect; it never raises another exception."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.engines.reward.engine import PoolingEngine

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["m", "vllm", "stop", "object", 400, 429, 1e308]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "data",
                    "id",
                    "owned_by",
                    "max_model_len",
                    "error",
                    "code",
                    "message",
                    "tokens",
                    "choices",
                    "index",
                    "delta",
                    "content",
                    "logprobs",
                    "top_logprobs",
                    "token",
                    "usage",
                    "prompt_tokens",
                    "completion_tokens",
                    "version",
                    "probs",
                    "max_tokens_per_doc",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
MODELS = st.fixed_dictionaries(
    {
        "data": st.lists(
            st.fixed_dictionaries(
                {"id": st.just("m")},
                optional={
                    "owned_by": st.just("vllm") | JSON,
                    "max_model_len": st.just(4096) | JSON,
                },
            ),
            min_size=1,
            max_size=2,
        )
    }
)
BODIES = (
    JSON.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
    | st.integers(1, 100_000).map(lambda depth: b'{"data":' + b"[" * depth)
    | st.sampled_from([b'{"data": 1' + b"0" * 5000 + b"}", b'{"data": Infinity}'])
)
STREAMS = st.lists(BODIES, max_size=3).map(
    lambda bodies: b"".join(b"data: " + body + b"\n\n" for body in bodies)
)
HEADERS = st.sampled_from(["application/json", "text/event-stream", "text/html", ""])


class AnyReplies:
    """Transport whose reply to each request is drawn; `is_recovered` makes it a correct server."""

    def __init__(self, data: st.DataObject, models: Any) -> None:
        self._data, self._models = data, models
        self.is_recovered = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.is_recovered:
            return _correct(request)
        if request.url.path == "/v1/models":
            return _reply(200, self._models)
        status = self._data.draw(st.sampled_from([200, 200, 200, 400, 404, 500]))
        body = self._data.draw(STREAMS | BODIES)
        kind = self._data.draw(HEADERS)
        return _reply(status, body, kind)


def _reply(status: int, body: bytes, kind: str = "application/json") -> httpx.Response:
    """Return a response whose body is not read yet, as from a socket."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    return httpx.Response(status, content=stream(), headers={"content-type": kind})


def _correct(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/v1/models":
        return _reply(200, b'{"data": [{"id": "m"}]}')
    if request.url.path == "/v1/chat/completions":
        choice = {"index": 0, "delta": {"content": "Yes"}, "finish_reason": "stop"}
        body = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"choices": [choice]}).encode()
        return _reply(200, body, "text/event-stream")
    if request.url.path == "/classify":
        return _reply(200, b'{"data": [{"probs": [0.5], "num_classes": 1}], "usage": {}}')
    return _reply(404, b"")


@pytest.mark.parametrize("kind", [HttpEngine, PoolingEngine])
def test_any_probe_reply_leaves_a_reason_or_a_dialect_and_a_recovered_server_is_ready(
    kind: Any,
) -> None:
    @settings(max_examples=150)
    @given(st.data(), BODIES | MODELS.map(lambda value: json.dumps(value).encode()))
    def check(data: st.DataObject, models: bytes) -> None:
        replies = AnyReplies(data, models)

        async def run() -> None:
            async with httpx.AsyncClient(transport=httpx.MockTransport(replies)) as client:
                engine = kind("e", "http://engine/v1", "m", client=client)
                for _ in range(2):
                    await engine.start()
                    if engine.ready:
                        assert engine.model == "m"
                        window = engine.context_window
                        assert window is None or (type(window) is int and window > 0)
                    else:
                        assert engine.why_not_ready
                        assert len(engine.why_not_ready) < 600
                replies.is_recovered = True
                await engine.start()
                await engine.start()
                assert engine.ready, engine.why_not_ready

        anyio.run(run)

    check()
