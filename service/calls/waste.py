"""Which of the completion tokens that a run was delivered are used."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from secondpass.strategies.api.values import Completion, Role


@dataclass(slots=True)
class _Source:
    """One completion of one attempt. `kept` counts its characters, its ids, and the characters without ids."""

    role: Role
    tokens: int = 0
    characters: int = 0
    is_whole: bool = False
    kept: tuple[int, int, int] | None = None

    @property
    def wasted(self) -> int:
        if self.is_whole:
            return 0
        if self.kept is None:
            return self.tokens
        characters, ids, unknown = self.kept
        if characters >= self.characters:
            return 0
        return max(0, self.tokens - ids - math.ceil(unknown * self.tokens / self.characters))


class Waste:
    """The completion tokens of a run, by the stream that delivered them, and which of them are used.

    A completion that is finished is used as a whole, one that is not, not at all, until `keep` or `drop` changes it.
    """

    def __init__(self) -> None:
        self._sources: list[_Source] = []

    def open(self, role: Role) -> int:
        """A source: one completion of one attempt of a call of `role`."""
        self._sources.append(_Source(role))
        return len(self._sources) - 1

    def deliver(self, source: int, tokens: int, characters: int = 0) -> None:
        """Count completion tokens, and the characters of reasoning and text in them, that a source delivered."""
        self._sources[source].tokens += tokens
        self._sources[source].characters += characters

    def use(self, sources: Iterable[int], *, is_used: bool = True) -> None:
        """All that these sources deliver is used, or else only what is kept of it."""
        for source in sources:
            self._sources[source].is_whole = is_used

    def keep(self, completion: Completion) -> None:
        """The tokens of its segments are used: a later call continues from them, or a candidate is made of them."""
        source: int | None = None
        characters = ids = unknown = 0
        for each in completion.segments:  # those of one source are next to each other
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
        """Note the largest part of a source that is kept."""
        if number is not None:
            source = self._sources[number]
            if source.kept is None or kept[:2] > source.kept[:2]:
                source.kept = kept

    def drop(self, completion: Completion) -> None:
        """The completion was handed over but not read as a whole: only what is kept of it is used."""
        self.use(
            {each.source for each in completion.segments if each.source is not None}, is_used=False
        )

    def of(self, sources: Iterable[int]) -> int:
        """Completion tokens of these sources that are not used."""
        return sum([self._sources[source].wasted for source in sources])

    def wasted(self) -> dict[Role, int]:
        """Completion tokens that were delivered and are not used, by role."""
        found: Counter[Role] = Counter()
        for source in self._sources:
            found[source.role] += source.wasted
        return dict(found)
