import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from secondpass.service.engines.vllm.asgi import ASGIApp, forward_to_app
from secondpass.strategies.api.engine import PlainRequest
from secondpass.strategies.api.errors import EngineUnavailable, StreamInterrupted

pytestmark = pytest.mark.anyio

REQUEST = PlainRequest("chat/completions", b'{"n": 1}', (("Content-Type", "application/json"),))


def app_of(endpoint: object) -> ASGIApp:
    app: ASGIApp = Starlette(routes=[Route("/v1/chat/completions", endpoint, methods=["POST"])])  # type: ignore[arg-type]
    return app


async def test_the_request_and_the_reply_are_forwarded_unchanged() -> None:
    async def echo(request: Request) -> Response:
        received = {"path": request.url.path, "headers": dict(request.headers)}
        return JSONResponse(received | {"body": await request.json()}, 202, {"x-own": "1"})

    async with forward_to_app(app_of(echo), REQUEST, engine="e") as reply:
        body = b"".join([chunk async for chunk in reply.chunks])
    assert reply.status == 202
    assert dict(reply.headers)["x-own"] == "1"
    assert body == (
        b'{"path":"/v1/chat/completions","headers":{"content-type":"application/json",'
        b'"content-length":"8"},"body":{"n":1}}'
    )


async def test_chunks_are_not_buffered_and_the_end_of_the_block_closes_their_source() -> None:
    written = 0
    has_ended = anyio.Event()

    async def endless(_: Request) -> Response:
        async def chunks() -> object:
            nonlocal written
            try:
                while True:
                    yield b"word "
                    written += 1
                    await anyio.sleep(0.001)
            finally:
                has_ended.set()

        return StreamingResponse(chunks())  # type: ignore[arg-type]

    async with forward_to_app(app_of(endless), REQUEST, engine="e") as reply:
        received = 0
        async for chunk in reply.chunks:
            assert chunk == b"word "
            received += 1
            assert written <= received + 2  # the writer waits for its reader
            if received == 20:
                break
    with anyio.fail_after(1):
        await has_ended.wait()


async def test_a_waiting_handler_receives_the_client_disconnect() -> None:
    seen: list[str] = []

    async def app(scope: object, receive: object, send: object) -> None:
        while len(seen) < 2:
            seen.append((await receive())["type"])  # type: ignore[operator]

    with anyio.move_on_after(0.05):
        async with forward_to_app(app, REQUEST, engine="e"):
            raise AssertionError("unexpected reply")
    assert seen == ["http.request", "http.disconnect"]


async def test_a_handler_that_ignores_the_client_disconnect_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("secondpass.service.engines.vllm.asgi.GRACE_SECONDS", 0.05)
    was_cancelled = False

    async def app(scope: object, receive: object, send: object) -> None:
        nonlocal was_cancelled
        try:
            await anyio.sleep_forever()
        except BaseException:
            was_cancelled = True
            raise

    with anyio.move_on_after(0.05):
        async with forward_to_app(app, REQUEST, engine="e"):
            raise AssertionError("unexpected reply")
    assert was_cancelled


async def test_an_application_that_fails_before_its_response_raises_engine_unavailable() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("out of order")

    with pytest.raises(EngineUnavailable, match=r"no reply from .* engine 'e': out of order"):
        async with forward_to_app(app, REQUEST, engine="e"):
            pass


async def test_an_application_that_fails_within_its_response_raises_stream_interrupted() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"wo", "more_body": True})  # type: ignore[operator]
        raise RuntimeError("out of order")

    async with forward_to_app(app, REQUEST, engine="e") as reply:
        with pytest.raises(StreamInterrupted, match="engine 'e' is incomplete: out of order"):
            assert [chunk async for chunk in reply.chunks] == [b"wo"]


async def test_an_exception_within_the_block_is_raised_unchanged() -> None:
    async def quick(_: Request) -> Response:
        return Response("ok")

    with pytest.raises(ValueError, match="mine"):
        async with forward_to_app(app_of(quick), REQUEST, engine="e"):
            raise ValueError("mine")
