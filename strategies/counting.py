"""What strategies whose drafts vote have in common."""

from __future__ import annotations

from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate, Completion
from secondpass.strategies.voting import Vote


async def count(run: Run, vote: Vote, draft: Completion) -> tuple[Candidate, int | None]:
    """Have a draft counted, and whoever leads now elected; gives the draft's candidate and its class."""
    candidate = run.candidate(draft)
    ballot = await run.class_of(candidate)
    run.elect(vote.add(candidate, ballot))
    return candidate, ballot
