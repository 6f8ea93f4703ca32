"""One completion under the request's own sampling: the baseline for every other strategy."""

from __future__ import annotations

from secondpass.strategies.api.registry import Params, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate


class Single(Params):
    """No parameters: the request's own sampling applies to the completion."""


@strategy("single", Single, paper=None, signal="none", update="none", streams=True)
async def single(run: Run, params: Single) -> Candidate:
    """Generate one completion and stream it while it is generated."""
    return run.candidate(await run.ask(SOLVE, visible=True))
