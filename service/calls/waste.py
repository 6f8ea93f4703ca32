"""Waste accounting: which delivered completion tokens of a run are used."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from secondpass.strategies.api.values import Completion, Role


@dataclass(slots=True)
class _Source:
    """One completion of one attempt.

    `kept` contains the numbers of used characters, of used token ids, and of used characters without ids.
    """

    role: Role
    tokens: int = 0
    characters: int = 0
    is_used: bool = False
    kept: tuple[int, int, int] | None = None

    @property
    def wasted(self) -> int:
        if self.is_used:
            return 0
        if self.kept is None:
            return self.tokens
        characters, ids, unknown = self.kept
        if characters >= self.characters:
            return 0
        return max(0, self.tokens - ids - math.ceil(unknown * self.tokens / self.characters))


class Waste:
    """Completion tokens of a run by the stream that delivered them, and the number in use.

    By default all tokens of a finished completion are used and none of an unfinished one. `keep` and `drop` change that.
    """

    def __init__(self) -> None:
        self._sources: list[_Source] = []

    def open(self, role: Role) -> int:
        """Open a source, one completion of one attempt of a call, and return its number."""
        self._sources.append(_Source(role))
        return len(self._sources) - 1

    def deliver(self, source: int, tokens: int, characters: int = 0) -> None:
        """Add delivered completion tokens to a source, and their characters of reasoning and text."""
        self._sources[source].tokens += tokens
        self._sources[source].characters += characters

    def use(self, sources: Iterable[int], *, is_used: bool = True) -> None:
        """Mark all tokens of the sources as used, or with `is_used=False` only the kept ones."""
        for source in sources:
            self._sources[source].is_used = is_used

    def keep(self, completion: Completion) -> None:
        """Mark the tokens of the completion's segments as used.

        A later call continues from them, or a candidate contains them.
        """
        source: int | None = None
        characters = ids = unknown = 0
        for each in completion.segments:  # segments of one source are adjacent
            if each.source is None:
                continue
            if each.source != source:
                self._keep(source, (characters, ids, unknown))
                source, characters, ids, unknown = each.source, 0, 0, 0
            size = len(each.text)
            characters += size
            if each.token_ids is None:
                unknown += size
            else:
                ids += len(each.token_ids)
        self._keep(source, (characters, ids, unknown))

    def _keep(self, number: int | None, kept: tuple[int, int, int]) -> None:
        """Record the largest kept part of a source."""
        if number is not None:
            source = self._sources[number]
            if source.kept is None or kept[:2] > source.kept[:2]:
                source.kept = kept

    def drop(self, completion: Completion) -> None:
        """Mark only the kept tokens of a completion as used: it was handed over but not consumed whole."""
        self.use(
            {each.source for each in completion.segments if each.source is not None}, is_used=False
        )

    def of(self, sources: Iterable[int]) -> int:
        """Return the number of unused completion tokens of the sources."""
        return sum([self._sources[source].wasted for source in sources])

    def wasted(self) -> dict[Role, int]:
        """Return the number of unused completion tokens by role."""
        wasted: Counter[Role] = Counter()
        for source in self._sources:
            wasted[source.role] += source.wasted
        return dict(wasted)


def split_by_weight(total: int, weights: list[int]) -> list[int]:
    """Split `total` into integers proportional to `weights`.

    The first part gets all of it if every weight is 0.
    """
    weight_sum = sum(weights)
    if not weight_sum:
        return [total, *[0] * (len(weights) - 1)]
    parts, cumulative, allocated = [], 0, 0
    for weight in weights:
        cumulative += weight
        part = total * cumulative // weight_sum - allocated
        allocated += part
        parts.append(part)
    return parts
