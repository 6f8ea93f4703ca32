"""Which sample of a pool is served as which: the shuffles of a replay, which stay what they are while the pool grows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count, filterfalse, islice

from secondpass.service.lab.pools.pool import Pool


class SampleOrder:
    """The places of the samples of each key under a `shuffle`; without one, each has its own.

    A shuffle permutes what the recorder drew. What strategies asked for stands behind that in the order of its
    indices, so that asking for more of it moves nothing; only more samples from the recorder do.
    """

    def __init__(self, pool: Pool, shuffle: int | None) -> None:
        self._pool, self._shuffle = pool, shuffle
        self._orders: dict[str, Sequence[int]] = {}

    def of(self, key: str, index: int) -> int:
        """The recorded index that is served as `index`, whether there is such a sample or not."""
        if self._shuffle is None:
            return index
        order = self._order(key)
        if index < len(order):
            return order[index]
        others = filterfalse(set(order).__contains__, count())
        return next(islice(others, index - len(order), None))

    def _order(self, key: str) -> Sequence[int]:
        drawn = self._pool.drawn(key)
        if len(self._orders.get(key, ())) != len(drawn):  # the pool may still grow
            random.Random(f"{self._shuffle}:{key}").shuffle(drawn)  # noqa: S311 - a replay is repeatable
            self._orders[key] = tuple(drawn)
        return self._orders.get(key, ())
