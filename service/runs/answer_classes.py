"""Which answers of a run are the same answer: equivalence classes, as small ids."""

from __future__ import annotations

import anyio

from secondpass.service.equivalence.checker import Allowance, Equivalence
from secondpass.strategies.answers.task import Task, needs_comparison, normalise


class AnswerClasses:
    """The classes among the answers seen so far; the first answer of a class represents it."""

    def __init__(self, task: Task, equivalence: Equivalence) -> None:
        self._task = task
        self._equivalence = equivalence
        self._allowance = Allowance()
        self._numbers: dict[str, int] = {}
        self._representatives: list[str] = []
        self._comparing = anyio.Lock()

    async def of(self, answer: str) -> int:
        """The class of an answer: that of the first representative it equals, or a new one."""
        form = normalise(self._task, answer)
        async with self._comparing:
            if form not in self._numbers:
                self._numbers[form] = await self._find(answer)
            return self._numbers[form]

    async def _find(self, answer: str) -> int:
        """The class of an answer whose normal form no class has."""
        if needs_comparison(self._task):
            for number, representative in enumerate(self._representatives):
                if await self._equals(answer, representative):
                    return number
        self._representatives.append(answer)
        return len(self._representatives) - 1

    async def _equals(self, a: str, b: str) -> bool:
        return await self._equivalence.same(a, b, self._allowance)
