"""The parts of uvicorn and httptools that the protocol of the service builds upon.

If a test fails after an upgrade, compare `service/server/http_protocol.py` with `uvicorn/protocols/http/httptools_impl.py`.
"""

import inspect

import httptools
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from secondpass.service.server.http_protocol import BoundedHttpProtocol
from tests.http.serving import serving

OVERRIDDEN = (
    *("connection_made", "connection_lost", "eof_received", "data_received"),
    *("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body"),
    *("on_message_complete", "on_response_complete", "handle_websocket_upgrade"),
)
CALLED = ("_unset_keepalive_if_required", "_should_upgrade")
USED = (
    *("parser", "url", "cycle", "flow", "transport", "connections", "loop", "server_state"),
    *("timeout_keep_alive", "pipeline"),
)
USED_OF_A_CYCLE = (
    *("keep_alive", "disconnected", "message_event", "response_started", "response_complete"),
)


@pytest.mark.parametrize("name", [*OVERRIDDEN, *CALLED])
def test_uvicorn_has_the_method(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name, None)), f"uvicorn has no {name} any more"


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_the_method_has_the_same_parameters_as_in_uvicorn(name: str) -> None:
    ours, theirs = (
        list(inspect.signature(getattr(kind, name)).parameters)
        for kind in (BoundedHttpProtocol, HttpToolsProtocol)
    )
    assert ours == theirs


def test_the_attributes_exist() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    assert not [name for name in USED if f"self.{name}" not in source]
    source = inspect.getsource(RequestResponseCycle)
    assert not [name for name in USED_OF_A_CYCLE if f"self.{name} = " not in source]


def test_the_server_uses_the_protocol() -> None:
    with serving() as served, served.client() as client:
        assert client.get("/livez").status_code == 200
        (connection,) = served.server.server_state.connections
        assert isinstance(connection, BoundedHttpProtocol)
        assert not connection.pipeline


def test_the_parser_passes_on_chunk_headers_and_stops_at_an_error_of_a_callback() -> None:
    seen = []

    class Callbacks:
        def on_chunk_header(self) -> None:
            seen.append("chunk")

        def on_body(self, body: bytes) -> None:
            raise ValueError

    parser = httptools.HttpRequestParser(Callbacks())
    with pytest.raises(httptools.HttpParserCallbackError):
        parser.feed_data(
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2
        )
    assert seen == ["chunk"]
