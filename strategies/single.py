"""One completion, as the client asked for it: the yardstick for everything else."""

from __future__ import annotations

from secondpass.strategies.api.registry import Params, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate


class Single(Params):
    """`single` has no parameters: the request's own sampling governs its one completion."""


@strategy("single", Single, paper=None, signal="none", update="none", streams=True)
async def single(run: Run, params: Single) -> Candidate:
    """One completion, streamed as it is written."""
    return run.candidate(await run.ask(SOLVE, visible=True))
