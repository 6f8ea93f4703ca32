"""Answer classes of a run, identified by small integers that later answers may change."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from secondpass.service.equivalence.checker import Allowance, Equivalence
from secondpass.strategies.answers.forms.form import NormalForm
from secondpass.strategies.answers.forms.normal_form import normal_form
from secondpass.strategies.answers.forms.partition import partition
from secondpass.strategies.answers.forms.units import asked_unit
from secondpass.strategies.answers.task import Task, needs_comparison, normalise


class AnswerClass(int):
    """Id of the class of an answer, which compares and hashes as the id that is valid now.

    It must not be kept as a key of a dictionary or set across an await, because later answers may change it.
    """

    _classes: Sequence[int]
    _position: int

    @classmethod
    def at(cls, classes: Sequence[int], position: int) -> AnswerClass:
        """Return the id of the answer at a position of the run's list of class ids."""
        self = cls(classes[position])
        self._classes, self._position = classes, position
        return self

    def __eq__(self, other: object) -> bool:
        return self._classes[self._position] == (int(other) if isinstance(other, int) else other)

    def __hash__(self) -> int:
        return hash(self._classes[self._position])

    def __int__(self) -> int:
        return self._classes[self._position]

    __index__ = __int__

    def __repr__(self) -> str:
        return str(self._classes[self._position])


class AnswerClasses:
    """Answer classes of one run: a function of the set of its answers so far, not of their order.

    A later answer may merge or split classes: "18" equals "18 cm" until another answer has the unit m. Ids that were returned
    earlier then change with it.
    """

    def __init__(self, task: Task, equivalence: Equivalence, question: str = "") -> None:
        self._task = task
        self._equivalence = equivalence
        self._asked = asked_unit(question) if needs_comparison(task) else None
        self._allowance = Allowance()
        self._positions: dict[str, int] = {}
        self._forms: list[NormalForm] = []
        self._resolved: list[NormalForm] = []
        self._classes: list[int] = []
        self._lock = anyio.Lock()

    async def of(self, answer: str) -> AnswerClass:
        """Return the class id of an answer, which counts from now on as one of the run's answers.

        The id is the position of the first equal answer, from 0.
        """
        async with self._lock:
            if answer not in self._positions:
                await self._add(answer)
        return AnswerClass.at(self._classes, self._positions[answer])

    async def _add(self, answer: str) -> None:
        form = self._form(answer)
        if form in self._forms:
            self._positions[answer] = self._forms.index(form)
            return
        resolved = await self._equivalence.resolved(form, self._allowance)
        self._forms.append(form)
        self._resolved.append(resolved)
        # Which answers were evaluated before the allowance was spent depends on the order: then none counts as evaluated.
        forms = self._forms if self._allowance.is_spent else self._resolved
        self._positions[answer] = len(self._forms) - 1
        self._classes[:] = partition(forms, self._asked)

    def _form(self, answer: str) -> NormalForm:
        if needs_comparison(self._task):
            return normal_form(answer)
        return NormalForm(["text", normalise(self._task, answer)])


async def is_same_answer(task: Task, equivalence: Equivalence, a: str, b: str) -> bool:
    """Return whether two answers to a task are equal as the only answers of a run."""
    classes = AnswerClasses(task, equivalence)
    return await classes.of(a) == await classes.of(b)
