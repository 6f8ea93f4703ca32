"""Order of a pool's samples under a shuffle, stable while calls of strategies are added."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count, filterfalse, islice

from secondpass.service.lab.pools.pool import Pool


class SampleOrder:
    """Mapping from requested to recorded indices under a `shuffle`; the identity without one.

    A shuffle permutes the samples drawn by the recorder. Samples drawn for strategies follow in the order of their
    indices, so adding them changes no position. Only new samples of the recorder change the order.
    """

    def __init__(self, pool: Pool, shuffle: int | None) -> None:
        self._pool, self._shuffle = pool, shuffle
        self._orders: dict[str, Sequence[int]] = {}

    def recorded_index(self, key: str, index: int) -> int:
        """Return the recorded index served as `index`, whether or not that sample exists."""
        if self._shuffle is None:
            return index
        order = self._order(key)
        if index < len(order):
            return order[index]
        others = filterfalse(set(order).__contains__, count())
        return next(islice(others, index - len(order), None))

    def _order(self, key: str) -> Sequence[int]:
        drawn = self._pool.recorder_indices(key)
        if len(self._orders.get(key, ())) != len(drawn):  # samples may be added
            random.Random(f"{self._shuffle}:{key}").shuffle(drawn)  # noqa: S311 - replays are reproducible
            self._orders[key] = tuple(drawn)
        return self._orders.get(key, ())
