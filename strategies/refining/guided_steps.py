"""Drafts whose steps a critic checks during generation, as in SPC (arXiv 2504.19162).

A wrong step is redrawn from the steps before it.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from secondpass.strategies.api.handles import StepStream
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Completion, Draw
from secondpass.strategies.refining.critics import is_step_wrong


@dataclass
class StepGuide:
    """Settings of guided drafts, and counts of checked steps, redrawn steps and unreadable verdicts.

    `chains` is the number of drafts. Draw i of chain c has the index c + i * chains.
    """

    chains: int
    redraws: int
    temperature: float
    checked: int = 0
    redrawn: int = 0
    unreadable: int = 0

    @property
    def report(self) -> str:
        """The counts as a note."""
        return f"{self.checked} checked, {self.redrawn} redrawn, {self.unreadable} unreadable"

    async def generate(self, run: Run, chain: int) -> Completion:
        """Generate a finished draft. A step is redrawn at most `redraws` times; its last draw is not checked."""
        prefix: Completion | None = None
        draws = step_draws = 0
        while True:
            async with self._stream(run, prefix, chain + draws * self.chains) as stream:
                wrong = await self._first_wrong(run, stream, skip_first=step_draws == self.redraws)
                if wrong is None:
                    return stream.completion
                before = stream.truncated(wrong)
            step_draws = step_draws + 1 if wrong == 0 and draws else 1
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

    async def _first_wrong(self, run: Run, stream: StepStream, *, skip_first: bool) -> int | None:
        """Return the position (from 0) of the first step with the verdict "wrong"; None without one."""
        number = -1
        async for _ in stream:
            number += 1
            if number == 0 and skip_first:
                continue
            so_far = stream.truncated(number + 1)
            [is_wrong] = await run.map(partial(is_step_wrong, run), [so_far], min_results=0)
            self.checked += 1
            self.unreadable += is_wrong is None
            if is_wrong:
                return number
        return None


def unsupported_reason(run: Run) -> str | None:
    """Return the reason why the actor's drafts cannot be guided; None if they can."""
    if not run.model().can("prefix"):
        return "the actor's engine lacks the capability prefix"
    if run.model().profile.is_thinking:
        return "the model reasons, and its reasoning is not reopened"
    return None
