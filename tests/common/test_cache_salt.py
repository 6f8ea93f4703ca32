"""The cache salt of a tenant in the body of a forwarded request."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.cache_salt import with_cache_salt
from secondpass.service.common.errors import Malformed
from secondpass.service.common.json_text import without_member
from secondpass.service.common.strict_json import MAX_DEPTH, decode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(), of, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(["model", "a", "é", '"', "cache_salts"]) | st.text(), JSON)


@given(BODIES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_only_the_salt_of_a_body_changes(
    body: dict[str, Any], indent: int | str | None, is_ascii: bool
) -> None:
    body.pop("cache_salt", None)
    raw = json.dumps(body, indent=indent, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return  # `decode` refuses it
    salted = with_cache_salt(raw, "s")
    assert json.loads(salted) == body | {"cache_salt": "s"}
    assert raw.removeprefix(b"{") in salted
    assert json.loads(without_member(salted, "cache_salt")) == body


@pytest.mark.parametrize("own", ['"mine"', '"\\ud800"', '""', '"s"'])
def test_a_clients_own_salt_is_hashed_with_that_of_its_tenant(own: str) -> None:
    raw = b'{"a": 1.0, "cache_salt" : %b ,"b": 2e1}' % own.encode()
    one, two = (json.loads(with_cache_salt(raw, salt)) for salt in ("s", "t"))
    salts = {one.pop("cache_salt"), two.pop("cache_salt"), "s", "t", json.loads(own)}
    assert len(salts) == (4 if own == '"s"' else 5)
    assert with_cache_salt(raw, "s").startswith(b'{"a": 1.0, "cache_salt": "')
    assert with_cache_salt(raw, "s").endswith(b'" ,"b": 2e1}')


@given(st.text(), st.text())
def test_no_client_can_name_the_salt_of_another_tenant(own: str, other: str) -> None:
    raw = json.dumps({"cache_salt": own}).encode()
    salt = json.loads(with_cache_salt(raw, "s"))["cache_salt"]
    assert salt != other or own != other
    assert salt != json.loads(with_cache_salt(raw, "t"))["cache_salt"]
    assert len(salt) == 64


def test_a_salt_of_null_counts_as_none_and_other_types_are_refused() -> None:
    assert json.loads(with_cache_salt(b'{"cache_salt": null}', "s")) == {"cache_salt": "s"}
    for value in (b"1", b"[]", b"true"):
        with pytest.raises(Malformed, match="must be a string"):
            with_cache_salt(b'{"cache_salt": %b}' % value, "s")


def test_the_deepest_body_is_salted() -> None:
    depth = MAX_DEPTH - 1
    raw = b'{"a": %b%b}' % (b"[" * depth, b"]" * depth)
    decode(raw)
    assert with_cache_salt(raw, "s") == raw.replace(b"{", b'{"cache_salt": "s", ')
