"""A strategy in a distribution of its own."""

from pydantic import Field

from secondpass.strategies.api.registry import Params, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate


class LongestDraft(Params):
    """The parameters of `longest_draft`."""

    n: int = Field(default=3, ge=1, description="drafts")


@strategy("longest_draft", LongestDraft, paper=None, signal="none", update="select")
async def longest_draft(run: Run, params: LongestDraft) -> Candidate:
    """The longest of n drafts."""
    async with run.sample(SOLVE, params.n) as drafts:
        async for draft in drafts:
            run.propose(run.candidate(draft, score=len(draft.text), score_kind="length"))
    return run.best
