"""Forwarded chats of several tenants are salted for vLLM, and valid trace context only is passed on."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engines.upstream import Upstream
from tests.http.serving import QUESTION, Served, serving
from tests.http.upstreams import running
from tests.polling import wait_until

PATH = "/v1/chat/completions"
RAW = b'{"model":  "model", "messages": [{"role": "user", "content": "hi"}], "temperature": 1.0}'
VLLM = [{"id": "model", "owned_by": "vllm", "max_model_len": 4096}]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def front(tmp_path: Path, upstream: Upstream, *tenants: str) -> Iterator[tuple[Served, Upstream]]:
    keys = tmp_path / "keys"
    keys.write_text("".join(f"{t}:{hashlib.sha256(t.encode()).hexdigest()}\n" for t in tenants))
    with (
        running(upstream),
        serving(
            engine="http",
            engine_url=upstream.url,
            model="model",
            api_keys_file=keys if tenants else None,
        ) as served,
    ):
        wait_until(lambda: served.get("/readyz").status_code == 200)
        upstream.requests.clear()
        yield served, upstream


def bodies(served: Served, upstream: Upstream, raw: bytes, *tenants: str) -> list[bytes]:
    """Forward a chat as each tenant and return the bodies that the upstream received."""
    upstream.requests.clear()
    with served.client() as client:
        for tenant in tenants:
            headers = {"content-type": "application/json", "authorization": f"Bearer {tenant}"}
            assert client.post(PATH, content=raw, headers=headers).status_code == 200
    return [body for path, _, body in upstream.requests if path == PATH]


def test_several_tenants_get_their_own_salts_on_vllm(tmp_path: Path) -> None:
    own = RAW.replace(b"{", b'{"cache_salt": "mine", ', 1)
    with front(tmp_path, Upstream(models=VLLM), "ali", "bea") as (served, upstream):
        sent = [
            *bodies(served, upstream, RAW, "ali", "bea", "ali"),
            *bodies(served, upstream, own, "ali", "bea"),
        ]
        salts = [json.loads(body)["cache_salt"] for body in sent]
        assert served.post(
            "/solve", QUESTION, headers={"authorization": "Bearer ali"}
        ).status_code in (200, 422, 502)
        runs = [
            json.loads(body) for path, _, body in upstream.requests if path.endswith("completions")
        ]
    assert salts[0] == salts[2]
    assert len({*salts, "mine"}) == 5
    assert all(RAW.removeprefix(b"{") in body for body in sent[:3])
    # Forwarded chats and runs of a tenant share its part of the cache.
    assert runs[-1]["cache_salt"] == salts[0]


@pytest.mark.parametrize("models", [VLLM, [{"id": "model", "owned_by": "someone"}]])
@pytest.mark.parametrize("tenants", [(), ("ali",), ("ali", "bea")])
def test_other_bodies_are_forwarded_byte_for_byte(
    tmp_path: Path, models: list[dict[str, object]], tenants: tuple[str, ...]
) -> None:
    if len(tenants) == 2 and models == VLLM:
        return  # the test above
    own = RAW.replace(b"{", b'{"cache_salt": "mine", ', 1)
    with front(tmp_path, Upstream(models=models), *tenants) as (served, upstream):
        for raw in (RAW, own):
            assert bodies(served, upstream, raw, "ali") == [raw]


@pytest.mark.parametrize("path", [PATH, "/solve"])
def test_invalid_trace_context_is_replaced(tmp_path: Path, path: str) -> None:
    odd = f"00-{'0' * 32}-b7ad6b7169203331-01"
    with front(tmp_path, Upstream()) as (served, upstream):
        for parent in (odd, TRACE.upper(), f"{TRACE}-x", TRACE):
            headers = {"traceparent": parent, "tracestate": "a=b"}
            body = json.loads(RAW) if path == PATH else QUESTION
            served.post(path, body, headers=headers)
        sent = [headers for path, headers, _ in upstream.requests if path == PATH]
    *replaced, kept = sent
    assert len(replaced) == 3
    assert all(headers["traceparent"][3:35] not in (odd, "0" * 32) for headers in replaced)
    assert all(headers["traceparent"][3:35] != TRACE[3:35] for headers in replaced)
    assert not any("tracestate" in headers for headers in replaced)
    assert kept["traceparent"] == TRACE
    assert kept.get("tracestate") == ("a=b" if path == PATH else None)
