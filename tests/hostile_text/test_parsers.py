"""Every reader of foreign text on the event loop is linear, and takes at most 50 ms for 100 kB.

Formulas are exempt: `service.equivalence` evaluates them in worker processes with a limit of CPU time, which
tests/equivalence checks. What remains on the loop, the parsing of answers to normal forms, is not.
"""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from secondpass.service.equivalence.checker import Allowance, Equivalence
from secondpass.strategies.answers.forms.normal_form import normal_form
from tests.hostile_text.parsers import FRAMES, PARSERS
from tests.hostile_text.shapes import SEEDS, bare, mixed, mixtures, shaped
from tests.hostile_text.timing import LIMIT, Shape, cost, problem

_NAMES = tuple(PARSERS)
_EVERY = 4
"""The fast tests try one of so many seeds, other ones with each parser; the slow tests try all."""


def _framed(frame: tuple[str, str], seed: str) -> Shape:
    before, after = frame
    return lambda size: before + bare(seed, size - len(before) - len(after)) + after


def _shapes(position: int, every: int, mixed_count: int) -> Iterator[tuple[str, Shape]]:
    """Yield shapes with their names: a part of the seeds, of the seeds in frames, and some mixtures."""
    for seed in SEEDS[position % every :: every]:
        yield repr(seed), partial(shaped, seed)
    for at, (name, frame) in enumerate(FRAMES.items()):
        step = every * len(FRAMES) if every > 1 else 1
        for seed in SEEDS[(position + at) % step :: step]:
            yield f"{seed!r} in {name}", _framed(frame, seed)
    for number in mixtures(mixed_count, first=1000 * position):
        yield f"mixture {number}", partial(mixed, number)


def _problems(name: str, every: int, mixed_count: int) -> list[str]:
    use = PARSERS[name]
    return [
        f"{shown}: {why}"
        for shown, shape in _shapes(_NAMES.index(name), every, mixed_count)
        if (why := problem(use, shape))
    ]


@pytest.mark.no_cover  # coverage multiplies the time
@pytest.mark.serial
@pytest.mark.parametrize("name", _NAMES)
def test_every_parser_takes_linear_time_on_hostile_text(name: str) -> None:
    assert not _problems(name, _EVERY, 4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", _NAMES)
def test_every_parser_takes_linear_time_on_all_shapes(name: str) -> None:
    assert not _problems(name, 1, 100)


def test_formulas_are_evaluated_off_the_event_loop() -> None:
    """A formula that takes its worker seconds takes the event loop milliseconds."""

    async def own_seconds() -> float:
        async with Equivalence(cpu_seconds=0.5) as equivalence:
            await equivalence.warm()
            form = normal_form("(" * 30 + "2^x" + "^x)" * 30)
            loop_seconds = cost(lambda _: normal_form("(" * 30 + "2^x" + "^x)" * 30), "", LIMIT)
            await equivalence.resolved(form, Allowance())
            return loop_seconds

    assert asyncio.run(own_seconds()) < LIMIT
