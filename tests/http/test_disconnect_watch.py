"""Work and its client: either may end first, and neither delays the other."""

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.errors import ClientDisconnected, Drained
from secondpass.service.http.disconnect import KEEP_ALIVE, EventStream, Outbox, cancel_on_disconnect
from secondpass.testing.support import ON_BOTH_BACKENDS

Sent = MutableMapping[str, Any]


class Client:
    """The client of an ASGI response: the messages it received, and when it disconnects."""

    def __init__(self, *, reads: bool = True) -> None:
        self.sent: list[Sent] = []
        self.disconnected = anyio.Event()
        self._reads = reads

    async def receive(self) -> Sent:
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Sent) -> None:
        if not self._reads:
            await anyio.sleep_forever()
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent)


@asynccontextmanager
async def disconnecting(client: Client, after: float) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:

        async def disconnect() -> None:
            await anyio.sleep(after)
            client.disconnected.set()

        group.start_soon(disconnect)
        yield


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_work_that_finishes_first_returns_its_result() -> None:
    async def work() -> int:
        await anyio.sleep(0.01)
        return 42

    assert await cancel_on_disconnect(Client().receive, work) == 42


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_an_exception_of_the_work_propagates_unchanged() -> None:
    async def work() -> None:
        raise Drained("going down")

    with pytest.raises(Drained):
        await cancel_on_disconnect(Client().receive, work)


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_disconnect_cancels_the_work_and_waits_for_its_cleanup() -> None:
    client, cleaned = Client(), False

    async def work() -> None:
        nonlocal cleaned
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
                cleaned = True

    async with disconnecting(client, 0.01):
        with pytest.raises(ClientDisconnected):
            await cancel_on_disconnect(client.receive, work)
    assert cleaned


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_stream_sends_everything_before_its_final_message() -> None:
    client = Client()

    async def produce(outbox: Outbox) -> None:
        for number in range(3):
            outbox.put(b"%d" % number)
            await anyio.lowlevel.checkpoint()

    await EventStream(produce, 10)({}, client.receive, client.send)
    assert client.sent[0]["type"] == "http.response.start"
    assert client.body == b"012"
    assert client.sent[-1]["more_body"] is False


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_an_error_before_the_first_bytes_starts_no_response() -> None:
    client = Client()

    async def produce(outbox: Outbox) -> None:
        assert not outbox.has_started
        raise Drained("going down")

    with pytest.raises(Drained):
        await EventStream(produce, 10)({}, client.receive, client.send)
    assert client.sent == []


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_an_idle_stream_starts_with_a_keep_alive_comment() -> None:
    client = Client()

    async def produce(outbox: Outbox) -> None:
        await anyio.sleep(0.05)
        assert outbox.has_started
        outbox.put(b"end")

    await EventStream(produce, 0.01)({}, client.receive, client.send)
    assert client.body.startswith(KEEP_ALIVE)
    assert client.body.endswith(b"end")


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_client_that_does_not_read_delays_nothing() -> None:
    client, put = Client(reads=False), 0

    async def produce(outbox: Outbox) -> None:
        nonlocal put
        while put < 1000:
            outbox.put(b"x" * 1000)
            put += 1
            await anyio.lowlevel.checkpoint()

        client.disconnected.set()

    with anyio.fail_after(60), pytest.raises(ClientDisconnected):
        await EventStream(produce, 10)({}, client.receive, client.send)
    assert put == 1000


@given(st.lists(st.binary(max_size=5)))
def test_an_outbox_never_loses_or_reorders_bytes(chunks: list[bytes]) -> None:
    async def main() -> bytes:
        outbox, got = Outbox(), b""

        async def put() -> None:
            for chunk in chunks:
                outbox.put(chunk)
                if chunk:
                    await anyio.lowlevel.checkpoint()
            outbox.close()

        async with anyio.create_task_group() as group:
            group.start_soon(put)
            while (taken := await outbox.take(0.001)) or not outbox.is_closed:
                got += taken
        return got

    assert anyio.run(main) == b"".join(chunks)
