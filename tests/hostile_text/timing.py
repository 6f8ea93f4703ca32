"""CPU time of a function of a text, at growing sizes."""

import re
import time
from collections.abc import Callable

SIZES = (1_000, 10_000, 100_000)
"""Characters of the texts."""

LIMIT = 0.05
"""Most seconds of CPU time for the longest text: for so long, the event loop serves nothing else."""

GROWTH = 25
"""Largest factor of the time for ten times the text; more is not linear, with a tolerance for noise."""

_FLOOR = 0.005
"""Seconds below which a time is not compared, because it is mostly noise."""

_ATTEMPTS = 5
_REFERENCE, _REFERENCE_TEXT = re.compile(r"\w+"), "ab " * 10_000
_REFERENCE_SECONDS = 0.0013
"""CPU time of a scan of the text on the machine for which `LIMIT` is: a core of a server of 2023."""

Use = Callable[[str], object]
Shape = Callable[[int], str]


def cost(use: Use, text: str, enough: float) -> float:
    """Return the least CPU time in seconds of several calls; of the first one that takes at most `enough`."""
    least = float("inf")
    for _ in range(_ATTEMPTS):
        start = time.thread_time()
        use(text)
        least = min(least, time.thread_time() - start)
        if least <= enough or least > 20 * LIMIT:
            break
    return least


def _slowness() -> float:
    """Return how much slower than the reference machine this one is now, at least 1."""
    start = time.thread_time()
    for _ in range(20):
        sum(1 for _ in _REFERENCE.finditer(_REFERENCE_TEXT))
    return max(1.0, (time.thread_time() - start) / 20 / _REFERENCE_SECONDS)


def problem(use: Use, shape: Shape, sizes: tuple[int, ...] = SIZES) -> str | None:
    """Return why the time is not linear in the text, or too long; None if it is neither.

    The longest text is skipped if shorter ones show that it cannot exceed the limit: a quadratic function would finish it
    in time, or the function is linear so far and fast.
    """
    small, medium, large = sizes
    first = cost(use, shape(small), 0.2 * LIMIT)
    if first > LIMIT and first > LIMIT * _slowness():
        return f"{small} characters: {1000 * first:.0f} ms"
    second = cost(use, shape(medium), max(LIMIT / 200, 11 * first))
    if second > LIMIT and second > LIMIT * _slowness():
        return f"{medium} characters: {1000 * second:.0f} ms"
    if second < LIMIT / 200 or (second <= 12 * first and second < LIMIT / 30):
        return None
    third = cost(use, shape(large), 0.8 * LIMIT)
    if third > LIMIT and third > LIMIT * _slowness():
        return f"{large} characters: {1000 * third:.0f} ms"
    if third > GROWTH * second + _FLOOR:
        return f"{large} characters: {1000 * third:.1f} ms, after {1000 * second:.1f} ms"
    return None
