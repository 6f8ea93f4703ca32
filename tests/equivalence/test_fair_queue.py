"""Fair queue: round-robin over runs, FIFO within a run."""

import anyio
import pytest

from secondpass.service.equivalence.fair_queue import FairQueue
from secondpass.testing.support import ON_BOTH_BACKENDS


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_slots_are_granted_round_robin_over_keys_and_fifo_within_a_key() -> None:
    queue, served = FairQueue(1), []

    async def wait(key: str, number: int) -> None:
        async with queue.slot(key):
            served.append(f"{key}{number}")

    async with anyio.create_task_group() as group, queue.slot("first"):
        for key, number in (("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("b", 1)):
            group.start_soon(wait, key, number)
            await anyio.wait_all_tasks_blocked()
    assert served == ["a0", "b0", "c0", "a1", "b1", "a2"]


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_cancelled_waiters_neither_lose_nor_add_slots() -> None:
    queue, used, max_used = FairQueue(3), 0, 0

    async def use_slot(number: int) -> None:
        nonlocal used, max_used
        with anyio.move_on_after(0.001 * (number % 7) if number % 2 else 30):
            async with queue.slot(number % 5):
                used += 1
                max_used = max(max_used, used)
                try:
                    await anyio.sleep(0.001 * (number % 3))
                finally:
                    used -= 1

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(use_slot, number)
    assert (used, max_used, queue._free) == (0, 3, 3)
    assert not queue._waiting
