"""A draft whose steps are checked as they are written: the first wrong one is redrawn (arXiv 2504.19162)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from secondpass.strategies.api.handles import StepStream
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Completion, Draw
from secondpass.strategies.refining.critics import is_step_wrong


@dataclass
class Guide:
    """How drafts are guided, and the counts of steps checked, redrawn because they were wrong, and not readable.

    `chains` is the number of drafts: draw i of chain c has the index c + i * chains.
    """

    chains: int
    redraws: int
    temperature: float
    checked: int = 0
    redrawn: int = 0
    unreadable: int = 0

    @property
    def report(self) -> str:
        """The counts, for a note."""
        return f"{self.checked} checked, {self.redrawn} drawn again, {self.unreadable} unreadable"

    async def write(self, run: Run, chain: int) -> Completion:
        """A whole draft. A step is redrawn at most `redraws` times; the last draw is taken as it is."""
        prefix: Completion | None = None
        draws = tries = 0
        while True:
            async with self._stream(run, prefix, chain + draws * self.chains) as stream:
                wrong = await self._first_wrong(run, stream, spared=tries == self.redraws)
                if wrong is None:
                    return stream.completion
                before = stream.truncated(wrong)
            tries = tries + 1 if wrong == 0 and draws else 1
            draws += 1
            self.redrawn += 1
            prefix = before if before.text.strip() else None

    def _stream(
        self, run: Run, prefix: Completion | None, index: int
    ) -> AbstractAsyncContextManager[StepStream]:
        draw = Draw(temperature=self.temperature)
        if prefix is None:
            return run.steps(SOLVE, index=index, draw=draw)
        return run.extend_steps(prefix, index=index, draw=draw)

    async def _first_wrong(self, run: Run, stream: StepStream, *, spared: bool) -> int | None:
        """The number (from 0) of the first step with the verdict "wrong"; with `spared` never the first one."""
        number = -1
        async for _ in stream:
            number += 1
            if number == 0 and spared:
                continue
            so_far = stream.truncated(number + 1)
            [is_wrong] = await run.map(partial(is_step_wrong, run), [so_far], min_results=0)
            self.checked += 1
            self.unreadable += is_wrong is None
            if is_wrong:
                return number
        return None


def obstacle(run: Run) -> str | None:
    """Why the run's drafts cannot be guided; None where they can."""
    if not run.model().can("prefix"):
        return "the actor's engine lacks the capability prefix"
    if run.model().profile.is_thinking:
        return "the model reasons, and its reasoning is not reopened"
    return None
