"""A `secondpass` field without options is never sent to an engine."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.json_text import without_member
from secondpass.service.common.strict_json import decode
from tests.engines.upstream import DONE, Upstream, chunk, event, streams
from tests.http.serving import Json, Served, serving
from tests.http.upstreams import running
from tests.polling import wait_until

CHAT = "/v1/chat/completions"
TURN: Json = {"role": "user", "content": "What is 6 times 7?"}


@pytest.fixture(scope="module")
def front() -> Iterator[tuple[Upstream, Served]]:
    with (
        running(Upstream()) as upstream,
        serving(engine="http", engine_url=upstream.url, model="model") as served,
    ):
        wait_until(lambda: served.get("/readyz").status_code == 200)
        upstream.chat = streams(event(chunk("The answer is 42.", "stop")), DONE)
        yield upstream, served


def sent(front: tuple[Upstream, Served], raw: bytes) -> bytes:
    """Return the body that the upstream gets for a plain chat request."""
    upstream, served = front
    upstream.requests.clear()
    with served.client() as client:
        reply = client.post(CHAT, content=raw, headers={"content-type": "application/json"})
    assert reply.status_code == 200, reply.text
    ((_, _, body),) = upstream.requests
    return body


MEMBERS = b'"model":"model", "messages" : [{"role":"user","content":"say \\"secondpass\\": null"}]'


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"secondpass":null,%b}', b"{%b}"),
        (b'{%b,"secondpass": null}', b"{%b}"),
        (b'\n{ %b ,\n\t"secondpass"\r\n:\tnull\n}\n', b"{%b}"),
        (b'{%b,"\\u0073econdpass":null,"n":1}', b'{%b,"n":1}'),
        (b'{%b,"metadata":{"secondpass":null},"secondpass":null}', None),
        (b'{%b,"temperature":1.10,"seed":12345678901234567890,"secondpass":null}', None),
        (b'{%b,"top_p":1e0,"logit_bias":{"5":-1E+2},"secondpass":null,"stop":["\\u00e9"]}', None),
    ],
)
def test_a_null_is_removed_and_all_other_text_is_forwarded(
    front: tuple[Upstream, Served], raw: bytes, expected: bytes | None
) -> None:
    forwarded = sent(front, raw % MEMBERS)
    unset = raw.replace(b',"secondpass":null', b"") if expected is None else expected
    assert forwarded.replace(b" ", b"") == (unset % MEMBERS).replace(b" ", b"")


def test_a_request_without_the_field_is_forwarded_byte_for_byte(
    front: tuple[Upstream, Served],
) -> None:
    raw = b'{ "n" : 1.0 , %b , "metadata":{"secondpass":null}}' % MEMBERS
    assert sent(front, raw) == raw


@pytest.mark.parametrize("options", [None, {}])
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_strategy_of_the_model_runs_without_options(
    front: tuple[Upstream, Served], options: Json | None, is_stream: bool
) -> None:
    upstream, served = front
    upstream.requests.clear()
    body = {"model": "model@single", "messages": [TURN], "secondpass": options}
    reply = served.post(CHAT, body | {"stream": is_stream})
    assert reply.status_code == 200
    assert '"strategy":"single"' in reply.text
    assert upstream.requests
    assert not any(b"secondpass" in raw for _, _, raw in upstream.requests)


def test_an_empty_object_selects_the_default_strategy(front: tuple[Upstream, Served]) -> None:
    upstream, served = front
    upstream.requests.clear()
    reply = served.post(CHAT, {"model": "model", "messages": [TURN], "secondpass": {}})
    assert reply.json()["secondpass"]["strategy"] == "single"
    assert not any(b"secondpass" in raw for _, _, raw in upstream.requests)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
keys = st.text() | st.sampled_from(["secondpass", '"secondpass":', "second", "}", ","])
spaces = st.sampled_from([None, 1, "\t"])


@given(body=st.dictionaries(keys, values), indent=spaces, is_ascii=st.booleans())
def test_removing_a_member_never_changes_another(
    body: Json, indent: int | str | None, is_ascii: bool
) -> None:
    raw = json.dumps(body, indent=indent, ensure_ascii=is_ascii).encode()
    rest = without_member(raw, "secondpass")
    assert decode(rest) == {name: value for name, value in body.items() if name != "secondpass"}
