"""Pairwise tournament: a judge compares all pairs of drafts, and the draft with most wins is elected."""

from dataclasses import replace
from itertools import combinations

from pydantic import Field

from secondpass.strategies.api.registry import Params, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate


class PairwiseTournament(Params):
    """Parameters of the pairwise tournament."""

    n: int = Field(default=4, ge=1, description="drafts, each compared with all others")


@strategy(
    "pairwise_tournament", PairwiseTournament, paper=None, signal="self-score", update="select"
)
async def pairwise_tournament(run: Run, params: PairwiseTournament) -> Candidate:
    """Elect the draft that wins most of its comparisons."""
    found: dict[int, Candidate] = {}
    async with run.sample(SOLVE, params.n) as drafts:
        async for draft in drafts:
            found[draft.index] = run.candidate(draft)
            run.propose(found[draft.index])
    answered = sorted(i for i, candidate in found.items() if candidate.answer is not None)
    balance = dict.fromkeys(answered, 0)  # wins minus losses

    async def compare(pair: tuple[int, int]) -> None:
        a, b = pair
        preference = await run.compare(found[a], found[b])
        if preference.winner is not None:
            won, lost = (a, b) if preference.winner == "a" else (b, a)
            balance[won] += 1
            balance[lost] -= 1
        leader = min(answered, key=lambda index: (-balance[index], index))
        run.elect(_graded(found[leader], balance[leader], len(answered) - 1))

    await run.map(compare, combinations(answered, 2), min_results=0)
    return run.best


def _graded(candidate: Candidate, balance: int, others: int) -> Candidate:
    """Score a candidate with its win rate; ties and comparisons that were not made count half."""
    win_rate = (1 + balance / others) / 2
    why = f"wins minus losses: {balance:+d} in comparisons with {others} other drafts"
    return replace(candidate, score=win_rate, score_kind="win_rate", why=why)
