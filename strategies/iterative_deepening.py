"""Have each draft doubt itself once it is finished, and believe the doubt only where it is confirmed."""

from __future__ import annotations

from pydantic import Field

from secondpass.strategies import prompts
from secondpass.strategies.boundaries import is_safe_end
from secondpass.strategies.core import (
    SOLVE,
    BudgetExhausted,
    Candidate,
    Completion,
    EngineError,
    Run,
    UnusableCompletion,
)
from secondpass.strategies.deepening import Readings
from secondpass.strategies.registry import Params, strategy
from secondpass.strategies.voting import SafeLead, Vote

Read = tuple[Candidate, int | None]


class IterativeDeepening(Params):
    """How many chains, and how often each is made to go on."""

    n: int = Field(default=4, ge=1, le=64, description="chains, whose answers vote")
    width: int = Field(default=4, ge=1, le=64, description="chains at once at most")
    temperature: float = Field(default=0.7, ge=0, le=2, description="of every chain's first draft")
    max_triggers: int = Field(
        default=2, ge=0, le=8, description="how often a chain is made to go on at most"
    )
    agree: int = Field(
        default=2, ge=2, le=8, description="a chain ends when so many segments have one answer"
    )


@strategy(
    "iterative_deepening",
    IterativeDeepening,
    paper="2502.05449",
    signal="agreement",
    update="extend",
    needs={"prefix"},
)
async def iterative_deepening(run: Run, params: IterativeDeepening) -> Candidate:
    """Finished drafts go on after a sentence of doubt; an answer counts when it comes back, and chains vote.

    Paper: ID-sampling (arXiv 2502.05449). Ours: the trigger stands where a draft has finished, as in s1 (2501.19393);
    an answer that nothing confirms does not replace the first; a chain whose segments agree ends.
    """
    vote = Vote(n=params.n, rule=SafeLead())
    changed = 0

    async def chain(index: int) -> tuple[Read, bool]:
        draft = await run.ask(SOLVE, index=index, temperature=params.temperature)
        return await _deepen(run, params, draft)

    async with run.as_completed(chain, range(params.n), width=params.width) as chains:
        async for (candidate, ballot), is_changed in chains:
            changed += is_changed
            run.elect(vote.add(candidate, ballot))
            if vote.is_decided:
                run.stop_reason = "consensus"
                break
    run.note("changed", f"the answer changed within {changed} of {len(vote.ballots)} chains")
    return run.best


async def _deepen(run: Run, params: IterativeDeepening, draft: Completion) -> tuple[Read, bool]:
    """What the chain that begins with a draft answers, and whether its answer ever changed."""
    readings = Readings()
    trigger = f"\n\n{prompts.fill('deepen', {})} "
    for segment in range(params.max_triggers + 1):
        candidate = run.candidate(draft)
        run.propose(candidate)
        readings.add(candidate, await run.class_of(candidate))
        is_last = segment == params.max_triggers or readings.agree(params.agree)
        if is_last or not _may_go_on(run, draft):
            break
        try:
            draft = await run.extend(draft, text=trigger)
        except (BudgetExhausted, EngineError, UnusableCompletion) as error:
            run.note("not deepened", f"chain {draft.index}: {error}")
            break
    return readings.best, readings.is_changed


def _may_go_on(run: Run, draft: Completion) -> bool:
    """Is there an end to go on from, in words that the next segment can be compared with?"""
    if run.task.kind == "open":
        why = "an open question has no answers to compare"
    elif run.profile("actor").is_thinking or draft.reasoning:
        why = "the model thinks, and its thoughts are not reopened"
    elif draft.finish_reason != "stop":
        why = f"a draft ended by {draft.finish_reason}"
    elif not is_safe_end(draft.text):
        why = "a draft ended inside a formula, a code block or a tool call"
    else:
        return True
    run.note("not deepened", why)
    return False
