"""A draft whose steps are checked as they are written: the first wrong one is redrawn (arXiv 2504.19162)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from secondpass.strategies.api.errors import BudgetExhausted, CapabilityMissing
from secondpass.strategies.api.run import Draft, Run
from secondpass.strategies.api.values import SOLVE, Completion
from secondpass.strategies.refining.critics import is_step_wrong


@dataclass
class Guide:
    """How drafts are guided, and what came of it: steps checked, found wrong and drawn again, and not readable.

    `chains` is how many drafts there are: draw i of chain c has the index c + i * chains.
    """

    chains: int
    redraws: int
    temperature: float
    checked: int = 0
    redrawn: int = 0
    unreadable: int = 0

    @property
    def report(self) -> str:
        """What came of it, in words."""
        return f"{self.checked} checked, {self.redrawn} drawn again, {self.unreadable} unreadable"

    async def write(self, run: Run, chain: int) -> Completion:
        """A whole draft. A step is drawn again at most `redraws` times; the last draw is taken as it is."""
        begun: Completion | None = None
        draws = tries = 0
        while True:
            async with self._draft(run, begun, chain + draws * self.chains) as draft:
                wrong = await self._first_wrong(run, draft, spared=tries == self.redraws)
                if wrong is None:
                    return draft.completion
                before = draft.cut(wrong)
            tries = tries + 1 if wrong == 0 and draws else 1
            draws += 1
            self.redrawn += 1
            begun = before if before.text.strip() else None

    def _draft(
        self, run: Run, begun: Completion | None, index: int
    ) -> AbstractAsyncContextManager[Draft]:
        if begun is None:
            return run.steps(SOLVE, index=index, temperature=self.temperature)
        return run.extend_steps(begun, index=index, temperature=self.temperature)

    async def _first_wrong(self, run: Run, draft: Draft, *, spared: bool) -> int | None:
        """The number (from 0) of the first step that the critic calls wrong; with `spared` never the first one."""
        number = -1
        try:
            async for _ in draft:
                number += 1
                if number == 0 and spared:
                    continue
                is_wrong = await is_step_wrong(run, draft.cut(number + 1))
                self.checked += 1
                self.unreadable += is_wrong is None
                if is_wrong:
                    return number
        except BudgetExhausted:
            self._keep(run, draft)
            raise
        return None

    def _keep(self, run: Run, draft: Draft) -> None:
        """Answer with what is there of a draft if it holds its answer and there is nothing better."""
        candidate = run.candidate(draft)
        if candidate.answer is not None:
            run.propose(candidate)


def can_be_guided(run: Run, *, falls_back: bool) -> bool:
    """Can the run's drafts be guided? If not, a note says why.

    Raises RoleMissing, and CapabilityMissing where the actor cannot go on from a step, unless it `falls_back` to drafts
    that are not guided.
    """
    run.require("critic")
    try:
        run.require("actor", "prefix")
    except CapabilityMissing as error:
        if not falls_back:
            raise
        run.note("steps", f"not guided: {error}")
        return False
    if run.profile("actor").is_thinking:
        run.note("steps", "not guided: the model thinks, and its thoughts are not reopened")
        return False
    return True
