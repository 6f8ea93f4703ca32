import anyio
import pytest

from secondpass.service.engines.openai.token_cache import TokenCache
from secondpass.strategies.api.values import ImagePart, ImageURL, Message

pytestmark = pytest.mark.anyio


async def test_concurrent_callers_with_one_key_share_one_read() -> None:
    cache = TokenCache()
    reads = 0
    results: list[list[int]] = []

    async def read() -> list[int]:
        nonlocal reads
        reads += 1
        await anyio.sleep(0.01)
        return [1, 2, 3]

    async def get() -> None:
        results.append(list(await cache.get("key", read)))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(get)

    assert reads == 1
    assert results == [[1, 2, 3]] * 8


async def test_the_next_caller_reads_after_a_failed_or_cancelled_read() -> None:
    cache = TokenCache()

    async def fail() -> list[int]:
        await anyio.sleep(0.01)
        raise ValueError("no")

    async def hang() -> list[int]:
        await anyio.sleep_forever()
        raise AssertionError

    async def read() -> list[int]:
        return [7]

    with pytest.raises(ValueError, match="no"):
        await cache.get("key", fail)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.get, "key", hang)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert list(await cache.get("key", read)) == [7]


async def test_the_cache_never_contains_more_tokens_than_its_limit() -> None:
    cache = TokenCache(max_tokens=100)
    for key in range(50):
        cache.put(key, range(30))
        assert cache.size <= 100
    cache.put(49, range(10))
    assert cache.size == 70


async def test_the_least_recently_used_entry_is_evicted_first() -> None:
    cache = TokenCache(max_tokens=3)

    async def read() -> list[int]:
        return [0]

    for key in "abc":
        cache.put(key, [ord(key)])
    await cache.get("a", read)
    cache.put("d", [1])
    assert list(await cache.get("a", read)) == [ord("a")]
    assert list(await cache.get("b", read)) == [0]


def image(data: str) -> tuple[object, ...]:
    part = ImagePart(type="image_url", image_url=ImageURL(url=f"data:image/png;base64,{data}"))
    return (Message(role="user", content=(part,)),), False, None


async def test_the_cache_does_not_store_conversations() -> None:
    cache = TokenCache()
    for data in ("a" * 100_000, "a" * 100_000 + "b"):
        cache.put(image(data), [len(data)])

    async def read() -> list[int]:
        raise AssertionError

    assert list(await cache.get(image("a" * 100_000), read)) == [100_000]
    assert list(await cache.get(image("a" * 100_000 + "b"), read)) == [100_001]
    assert all(len(repr(key)) < 200 for key in cache._entries)
