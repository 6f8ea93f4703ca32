"""Without API keys a web page of another origin reaches nothing, even with DNS rebinding."""

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.errors import BadSettings, HttpError
from secondpass.service.config.settings import load
from secondpass.service.http.access.browser_rules import (
    BrowserRules,
    HostNotAllowed,
    OriginNotAllowed,
)
from tests.http.serving import QUESTION, Served, serving

LOOPBACK = (
    "localhost",
    "LOCALHOST:8000",
    "a.localhost:1",
    "127.0.0.1",
    "127.9.9.9:80",
    "[::1]:8000",
    "localhost.",
)
FOREIGN = (
    *(
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "notlocalhost",
    ),
    *(
        "0x7f.1",
        "2130706433",
        "localhost@evil.example",
        "localhost/x",
        "",
        " ",
        "[::1",
        "a b",
        "evil.localhost.example",
    ),
)
ADDRESSES = ("10.0.0.5:8000", "0.0.0.0:8000", "[fd00::1]:8000")


def ask(
    port: int, *headers: str, method: str = "GET", path: str = "/strategies"
) -> tuple[int, dict[str, str], bytes]:
    """Send one request with exactly these headers; return status, headers and body."""
    body = json.dumps(QUESTION).encode() if method == "POST" else b""
    lines = [f"{method} {path} HTTP/1.1", *headers, "connection: close"]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall("\r\n".join((*lines, "", "")).encode() + body)
        reply = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, content = reply.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return (
        int(status.split()[1]),
        {
            name.lower(): value.strip()
            for name, _, value in (each.partition(":") for each in fields)
        },
        content,
    )


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_loopback_name_is_accepted(served: Served, host: str) -> None:
    assert ask(served.port, f"host: {host}")[0] == 200


@pytest.mark.parametrize("host", [*FOREIGN, *ADDRESSES])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/strategies"), ("POST", "/solve"), ("GET", "/openapi.json")]
)
def test_another_host_is_refused(served: Served, host: str, method: str, path: str) -> None:
    status, _, body = ask(served.port, f"host: {host}", method=method, path=path)
    assert (status, json.loads(body)["code"]) == (421, "host_not_allowed")
    assert not served.engine.calls


def test_the_host_header_must_occur_once(served: Served) -> None:
    for headers in ((), ("host: localhost", "host: evil.example")):
        status, _, body = ask(served.port, *headers)
        assert (status, json.loads(body)["field"]) == (400, "host")


@pytest.mark.parametrize("host", [*LOOPBACK, *FOREIGN, *ADDRESSES])
@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_are_open_to_every_host(served: Served, host: str, path: str) -> None:
    assert ask(served.port, f"host: {host}", path=path)[0] == 200


def test_metrics_are_open_to_addresses_but_not_to_names(served: Served) -> None:
    for host in (*LOOPBACK, *ADDRESSES):
        assert ask(served.port, f"host: {host}", path="/metrics")[0] == 200
    assert ask(served.port, path="/metrics")[0] == 200
    for host in FOREIGN:
        assert ask(served.port, f"host: {host}", path="/metrics")[0] == 421


@pytest.mark.parametrize(
    "header",
    [
        *("origin: https://evil.example", "origin: null", "origin: http://localhost", "origin: "),
        *("origin: https://localhost:8000", "origin: http://127.0.0.1:8000", "origin: file://"),
        *("origin: http://localhost:8001", "origin: http://a.localhost:8000"),
        *("sec-fetch-site: cross-site", "sec-fetch-site: same-site", "sec-fetch-site: new-value"),
        "origin: http://localhost:8000\r\norigin: http://evil.example",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/strategies"), ("POST", "/solve"), ("OPTIONS", "/solve"), ("GET", "/metrics")],
)
def test_another_origin_is_refused(served: Served, header: str, method: str, path: str) -> None:
    status, headers, body = ask(
        served.port, "host: localhost:8000", header, method=method, path=path
    )
    assert (status, json.loads(body)["code"]) == (403, "origin_not_allowed")
    assert not any(name.startswith("access-control") for name in headers)
    assert not served.engine.calls


@pytest.mark.parametrize(
    "headers",
    [
        ("host: localhost:8000", "origin: http://localhost:8000", "sec-fetch-site: same-origin"),
        ("host: LocalHost", "origin: http://localhost:80"),
        ("host: [::1]:8000", "origin: http://[::1]:8000"),
        ("host: 127.0.0.1:8000", "sec-fetch-site: none"),
    ],
)
def test_pages_of_the_service_itself_are_accepted(served: Served, headers: tuple[str, ...]) -> None:
    assert ask(served.port, *headers)[0] == 200


def test_allowed_hosts_are_accepted_and_their_foreign_origins_are_not() -> None:
    with serving(allowed_hosts=("Front.example", "compose")) as served:
        for host in ("front.example", "compose:8000", "localhost"):
            assert ask(served.port, f"host: {host}")[0] == 200
        assert ask(served.port, "host: evil.example")[0] == 421
        assert ask(served.port, "host: compose", "origin: http://evil.example")[0] == 403
    with serving(allowed_hosts=("*",)) as served:
        assert ask(served.port, "host: evil.example")[0] == 200
        assert ask(served.port, "host: evil.example", "origin: http://other.example")[0] == 403


def test_beyond_loopback_addresses_are_accepted_but_names_are_not() -> None:
    with serving(host="0.0.0.0", allow_unauthenticated=True) as served:
        for host in (*LOOPBACK, *ADDRESSES):
            assert ask(served.port, f"host: {host}")[0] == 200
        for host in FOREIGN:
            assert ask(served.port, f"host: {host}")[0] == 421


def test_the_name_that_the_service_listens_on_is_accepted() -> None:
    rules = BrowserRules("own.example")
    rules.check({"type": "http", "path": "/solve", "headers": [(b"host", b"own.example:80")]})


def test_with_keys_the_key_decides_and_no_cors_headers_are_sent(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"ali:{hashlib.sha256(b'sesame').hexdigest()}\n")
    foreign = ("host: evil.example", "origin: https://evil.example", "sec-fetch-site: cross-site")
    with serving(api_keys_file=keys) as served:
        status, headers, _ = ask(served.port, *foreign, "authorization: Bearer sesame")
        assert (status, ask(served.port, *foreign)[0]) == (200, 401)
    assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect"])
def test_no_page_loads_scripts_from_another_site(served: Served, path: str) -> None:
    assert served.get(path).status_code == 404
    assert served.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/strategies", "/nowhere", "/v1/models"])
def test_browsers_do_not_guess_content_types(served: Served, path: str) -> None:
    assert served.get(path).headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize("name", ["http://a", "a:8000", "a/b", "a b"])
def test_an_allowed_host_is_a_name(name: str) -> None:
    with pytest.raises(BadSettings, match=r"allowed_hosts.*host names without scheme and port"):
        load(["--engine", "scripted", "--allowed-hosts", name])


NAMES = st.from_regex(r"[a-z0-9.-]{1,30}", fullmatch=True) | st.text(max_size=30)


@given(NAMES, st.sampled_from(["", ":80", ":8000"]), st.sampled_from(["127.0.0.1", "0.0.0.0"]))
def test_a_name_that_is_not_listed_is_never_accepted(name: str, port: str, listens_on: str) -> None:
    """Any name with a letter outside the loopback names is that of a stranger."""
    text = f"{name}{port}".encode("latin-1", "replace")
    scope = {"type": "http", "path": "/solve", "headers": [(b"host", text)]}
    bare = name.lower().removesuffix(".")
    is_ours = bare == "localhost" or bare.endswith(".localhost") or bare in ADDRESS_LIKE
    if is_ours or all(character in "0123456789.:[]abcdef" for character in bare):
        return
    with pytest.raises(HttpError) as refused:
        BrowserRules(listens_on).check(scope)
    assert isinstance(refused.value, HostNotAllowed)


ADDRESS_LIKE = ("127.0.0.1", "[::1]")


@given(st.text(max_size=60))
def test_an_origin_other_than_the_host_is_never_accepted(origin: str) -> None:
    raw = origin.encode("latin-1", "replace")
    if raw.lower() in (b"http://localhost:8000", b"http://localhost.:8000"):
        return
    headers = [(b"host", b"localhost:8000"), (b"origin", raw)]
    with pytest.raises(OriginNotAllowed):
        BrowserRules("127.0.0.1").check({"type": "http", "path": "/solve", "headers": headers})


@pytest.fixture(scope="module", autouse=True)
def _ends_without_calls(served: Served) -> Iterator[None]:
    yield
    assert not served.engine.calls
