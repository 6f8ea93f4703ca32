"""Turns over few workers: round-robin over runs, in order within one."""

import anyio
import pytest

from secondpass.service.equivalence.fair_queue import Turns
from secondpass.testing.support import ON_BOTH_BACKENDS


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_turns_go_around_and_each_keeps_its_own_order() -> None:
    turns, served = Turns(1), []

    async def wait(who: str, number: int) -> None:
        async with turns.turn(who):
            served.append(f"{who}{number}")

    async with anyio.create_task_group() as group, turns.turn("first"):
        for who, number in (("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("b", 1)):
            group.start_soon(wait, who, number)
            await anyio.wait_all_tasks_blocked()
    assert served == ["a0", "b0", "c0", "a1", "b1", "a2"]


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_no_place_is_lost_or_made_however_many_leave_while_they_wait() -> None:
    turns, held, most = Turns(3), 0, 0

    async def visit(number: int) -> None:
        nonlocal held, most
        with anyio.move_on_after(0.001 * (number % 7) if number % 2 else 30):
            async with turns.turn(number % 5):
                held += 1
                most = max(most, held)
                try:
                    await anyio.sleep(0.001 * (number % 3))
                finally:
                    held -= 1

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(visit, number)
    assert (held, most, turns._free) == (0, 3, 3)
    assert not turns._waiting
