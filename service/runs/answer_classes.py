"""Equivalence classes of the answers of a run, identified by small integers."""

from __future__ import annotations

import anyio

from secondpass.service.equivalence.checker import Allowance, Equivalence
from secondpass.strategies.answers.task import Task, needs_comparison, normalise


class AnswerClasses:
    """Answer classes of one run; the first answer of a class represents it."""

    def __init__(self, task: Task, equivalence: Equivalence) -> None:
        self._task = task
        self._equivalence = equivalence
        self._allowance = Allowance()
        self._class_ids: dict[str, int] = {}
        self._representatives: list[str] = []
        self._lock = anyio.Lock()

    async def of(self, answer: str) -> int:
        """Return the class id of an answer: that of the first equal representative, or a new id.

        Ids start at 0 and do not change during a run.
        """
        normal_form = normalise(self._task, answer)
        async with self._lock:
            if normal_form not in self._class_ids:
                self._class_ids[normal_form] = await self._classify(answer)
            return self._class_ids[normal_form]

    async def _classify(self, answer: str) -> int:
        """Classify an answer with a new normal form."""
        if needs_comparison(self._task):
            for class_id, representative in enumerate(self._representatives):
                if await self._equals(answer, representative):
                    return class_id
        self._representatives.append(answer)
        return len(self._representatives) - 1

    async def _equals(self, a: str, b: str) -> bool:
        return await self._equivalence.same(a, b, self._allowance)
